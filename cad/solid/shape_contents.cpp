// Volume and area of a shape, by integrals along the boundaries of its faces.
//
// With the divergence theorem, volume = 1/3 ∮ (p - about)·n dA, for a point `about` that is the
// same for all faces. On a plane (p - about)·n is constant and the area is an integral along the
// edges. On other surfaces Green's theorem in the parameters, ∬ f du dv = -∮ F du with F(u, v) = ∫
// f dv, leaves integrals along the edges too. On cylinders, cones, spheres and tori F is known in
// closed form; elsewhere it is a sum over points, span by span of the surface. The kernel's own
// integrals are slow on the first kinds, and on rational splines their few points are off by a
// hundredth.
#include <BRepAdaptor_Curve.hxx>
#include <BRepAdaptor_Surface.hxx>
#include <BRep_Tool.hxx>
#include <Geom2dAdaptor_Curve.hxx>
#include <Geom2d_Curve.hxx>
#include <Geom_BSplineSurface.hxx>
#include <TColStd_Array1OfReal.hxx>
#include <TopExp_Explorer.hxx>
#include <TopoDS.hxx>
#include <TopoDS_Edge.hxx>
#include <TopoDS_Face.hxx>
#include <algorithm>
#include <cmath>
#include <functional>
#include <gp_Circ.hxx>
#include <gp_Cone.hxx>
#include <gp_Cylinder.hxx>
#include <gp_Lin.hxx>
#include <gp_Pln.hxx>
#include <gp_Sphere.hxx>
#include <gp_Torus.hxx>
#include <vector>

#include "cad/solid/shape_measure.hpp"

namespace {

constexpr double PANEL_ERROR = 1e-7; // of ∫ |f|: so far apart may five and ten points be
constexpr int HALVINGS_MAX = 8;      // of a panel of an edge

// Both integrals at once: of the volume (three times) and of the area.
struct Sums {
    double volume = 0, area = 0;

    Sums operator+(const Sums &o) const { return {volume + o.volume, area + o.area}; }
    Sums operator-(const Sums &o) const { return {volume - o.volume, area - o.area}; }
    Sums operator*(double by) const { return {volume * by, area * by}; }
    Sums size() const { return {std::fabs(volume), std::fabs(area)}; }
};

// Gauss-Legendre points and weights on [-1, 1], of which the negative half is left out.
struct Rule {
    int pairs;
    bool middle; // 0 is the first of the points
    double at[5], weight[5];
};
constexpr Rule TEN = {5,
                      false,
                      {0.14887433898163122, 0.43339539412924721, 0.67940956829902444,
                       0.86506336668898454, 0.97390652851717174},
                      {0.29552422471475287, 0.26926671930999635, 0.21908636251598204,
                       0.14945134915058059, 0.06667134430868814}};
constexpr Rule FIVE = {3,
                       true,
                       {0, 0.53846931010568309, 0.90617984593866399},
                       {0.56888888888888889, 0.47862867049936647, 0.23692688505618909}};

template <typename Function>
auto gauss(const Rule &rule, double from, double to, Function f) -> decltype(f(from)) {
    double middle = 0.5 * (from + to), half = 0.5 * (to - from);
    decltype(f(from)) sum = {};
    for (int i = 0; i < rule.pairs; i++) {
        auto here = f(middle + half * rule.at[i]);
        if (i > 0 || !rule.middle) here = here + f(middle - half * rule.at[i]);
        sum = sum + here * rule.weight[i];
    }
    return sum * half;
}

// The integral by ten points, and whether five say the same.
template <typename Function>
bool agree(const Function &f, double from, double to, const Sums &allowed, Sums *fine) {
    *fine = gauss(TEN, from, to, f);
    Sums off = (*fine - gauss(FIVE, from, to, f)).size();
    return !(off.volume > allowed.volume || off.area > allowed.area);
}

// ∫ f, in halves where five points and ten do not agree.
template <typename Function>
Sums adaptive(const Function &f, double from, double to, const Sums &allowed, int halvings) {
    Sums fine;
    if (agree(f, from, to, allowed, &fine) || halvings == 0) return fine;
    double middle = 0.5 * (from + to);
    return adaptive(f, from, middle, allowed, halvings - 1) +
           adaptive(f, middle, to, allowed, halvings - 1);
}

// What the integral of a piece may be off by.
template <typename Function> Sums allowed_error(const Function &f, double from, double to) {
    return gauss(FIVE, from, to, [&](double t) { return f(t).size(); }) * PANEL_ERROR;
}

// The ends of the pieces on which a curve is smooth.
template <typename Curve> std::vector<double> smooth_pieces(const Curve &curve) {
    TColStd_Array1OfReal ends(1, curve.NbIntervals(GeomAbs_CN) + 1);
    curve.Intervals(ends, GeomAbs_CN);
    return std::vector<double>(ends.begin(), ends.end());
}

// ---- planes ----

// ∫ p × dp along an edge in its own direction.
gp_XYZ swept(const TopoDS_Edge &edge) {
    BRepAdaptor_Curve curve(edge);
    double first = curve.FirstParameter(), last = curve.LastParameter();
    if (curve.GetType() == GeomAbs_Line)
        return curve.Value(first).XYZ().Crossed(curve.Value(last).XYZ());
    if (curve.GetType() == GeomAbs_Circle) {
        // p = c + q: c × Δp + ∫ q × dq, and q × dq is the axis times radius² dt.
        gp_Circ circle = curve.Circle();
        gp_XYZ axis = circle.XAxis().Direction().XYZ().Crossed(circle.YAxis().Direction().XYZ());
        gp_XYZ chord = curve.Value(last).XYZ() - curve.Value(first).XYZ();
        return circle.Location().XYZ().Crossed(chord) +
               axis * (circle.Radius() * circle.Radius() * (last - first));
    }
    gp_XYZ sum;
    std::vector<double> ends = smooth_pieces(curve);
    for (size_t i = 1; i < ends.size(); i++)
        sum += gauss(TEN, ends[i - 1], ends[i], [&](double t) {
            gp_Pnt p;
            gp_Vec d;
            curve.D1(t, p, d);
            return p.XYZ().Crossed(d.XYZ());
        });
    return sum;
}

// +1 along the face's boundary, -1 against it, 0 for what bounds nothing.
double direction(const TopoDS_Shape &part) {
    return part.Orientation() == TopAbs_FORWARD    ? 1
           : part.Orientation() == TopAbs_REVERSED ? -1
                                                   : 0;
}

Sums plane_sums(const TopoDS_Face &face, const gp_Pln &plane, const gp_XYZ &about) {
    const gp_Ax3 &axes = plane.Position();
    gp_XYZ normal = axes.XDirection().XYZ().Crossed(axes.YDirection().XYZ());
    gp_XYZ twice;
    for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next())
        twice += swept(TopoDS::Edge(at.Current())) * direction(at.Current());
    double area = 0.5 * twice.Dot(normal);
    return {area * normal.Dot(plane.Location().XYZ() - about), area};
}

// ---- other surfaces ----

// F(u, v) of (p - about)·(p_u × p_v) and of |p_u × p_v|.
using Primitive = std::function<Sums(double u, double v)>;

// What a line or a circle r(v), z(v) makes when it turns about an axis:
// p = c + r e(u) + z, with e = (cos u, sin u). There, with c seen from `about`,
// (p - about)·(p_u × p_v) = r z' (r + c·e) - r r' (z + c_z).
class Turned {
    gp_XYZ center; // along the surface's own axes
    double side;   // -1 where they are left-handed
    bool round;    // r = major + minor cos v, z = minor sin v; else r = major + v sin, z = v cos
    double major, minor = 0, slope_sin = 0, slope_cos = 1;

    Turned(const gp_Ax3 &axes, const gp_XYZ &about, bool is_round, double radius)
        : side(axes.Direct() ? 1 : -1), round(is_round), major(radius) {
        gp_XYZ from = axes.Location().XYZ() - about;
        center = gp_XYZ(from.Dot(axes.XDirection().XYZ()), from.Dot(axes.YDirection().XYZ()),
                        from.Dot(axes.Direction().XYZ()));
    }

    // With ∫ r z' dv, ∫ r (r z' - z r') dv, r²/2 and ∫ r |(r', z')| dv.
    Sums sums(double u, double along, double both, double r, double area) const {
        double e = center.X() * std::cos(u) + center.Y() * std::sin(u);
        return {side * (both + e * along - 0.5 * center.Z() * r * r), area};
    }

  public:
    Turned(const gp_Cylinder &c, const gp_XYZ &about)
        : Turned(c.Position(), about, false, c.Radius()) {}
    Turned(const gp_Cone &c, const gp_XYZ &about)
        : Turned(c.Position(), about, false, c.RefRadius()) {
        slope_sin = std::sin(c.SemiAngle());
        slope_cos = std::cos(c.SemiAngle());
    }
    Turned(const gp_Sphere &s, const gp_XYZ &about) : Turned(s.Position(), about, true, 0) {
        minor = s.Radius();
    }
    Turned(const gp_Torus &t, const gp_XYZ &about)
        : Turned(t.Position(), about, true, t.MajorRadius()) {
        minor = t.MinorRadius();
    }

    Sums operator()(double u, double v) const {
        if (!round) {
            double area = major * v + 0.5 * slope_sin * v * v;
            return sums(u, slope_cos * area, major * slope_cos * area, major + slope_sin * v, area);
        }
        double s = std::sin(v), c = std::cos(v), squares = 0.5 * (v + s * c); // ∫ cos² v
        return sums(u, minor * (major * s + minor * squares),
                    minor * ((major * major + minor * minor) * s + major * minor * (v + squares)),
                    major + minor * c, minor * (major * v + minor * s));
    }
};

// The knots of a spline, or what the kernel has instead, within the bounds of `surface`. (It passes
// over the knots of a spline that it takes for smooth.)
std::vector<double> knots_of(const BRepAdaptor_Surface &surface, bool in_u) {
    TColStd_Array1OfReal ends(
        1, (in_u ? surface.NbUIntervals(GeomAbs_CN) : surface.NbVIntervals(GeomAbs_CN)) + 1);
    in_u ? surface.UIntervals(ends, GeomAbs_CN) : surface.VIntervals(ends, GeomAbs_CN);
    std::vector<double> knots(ends.begin(), ends.end());
    if (surface.GetType() != GeomAbs_BSplineSurface) return knots;
    double low = ends.First(), high = ends.Last();
    Handle(Geom_BSplineSurface) spline = surface.BSpline();
    const TColStd_Array1OfReal &own = in_u ? spline->UKnots() : spline->VKnots();
    double period = own.Last() - own.First(); // a closed one goes on beyond its last knot
    for (double shift : {-period, 0.0, period})
        for (double knot : own)
            if (knot + shift > low && knot + shift < high) knots.push_back(knot + shift);
    std::sort(knots.begin(), knots.end());
    return knots;
}

// Any surface, from the v below which the face has nothing.
class Spanned {
    BRepAdaptor_Surface surface;
    gp_XYZ about;
    std::vector<double> panels; // their ends in v: ten points are enough for each

    Sums density(double u, double v) const {
        gp_Pnt p;
        gp_Vec du, dv;
        surface.D1(u, v, p, du, dv);
        gp_XYZ normal = du.XYZ().Crossed(dv.XYZ());
        return {normal.Dot(p.XYZ() - about), normal.Modulus()};
    }

    void add_panels(double from, double to, int halvings) {
        bool enough = true;
        for (double share : {0.13, 0.48, 0.81}) { // of the face's width; any
            double u = (1 - share) * surface.FirstUParameter() + share * surface.LastUParameter();
            auto f = [&](double v) { return density(u, v); };
            Sums unused;
            enough &= agree(f, from, to, allowed_error(f, from, to), &unused);
        }
        double middle = 0.5 * (from + to);
        if (enough || halvings == 0) {
            panels.push_back(to);
        } else {
            add_panels(from, middle, halvings - 1);
            add_panels(middle, to, halvings - 1);
        }
    }

  public:
    Spanned(const BRepAdaptor_Surface &within, const gp_XYZ &from) : surface(within), about(from) {
        std::vector<double> knots = knots_of(surface, false);
        panels.push_back(knots.front());
        for (size_t i = 1; i < knots.size(); i++)
            if (knots[i] > knots[i - 1]) add_panels(knots[i - 1], knots[i], HALVINGS_MAX / 2);
    }

    Sums operator()(double u, double v) const {
        Sums sum;
        for (size_t i = 0; i + 1 < panels.size() && (i == 0 || panels[i] < v); i++) {
            bool last = i + 2 == panels.size() || panels[i + 1] >= v;
            sum = sum + gauss(TEN, panels[i], last ? v : panels[i + 1],
                              [&](double w) { return density(u, w); });
        }
        return sum;
    }
};

// A surface that is no plane.
struct Curved {
    Primitive primitive;
    std::vector<double> knots; // in u, between which it is smooth

    Curved(const TopoDS_Face &face, const BRepAdaptor_Surface &surface, const gp_XYZ &about) {
        switch (surface.GetType()) {
        case GeomAbs_Cylinder: primitive = Turned(surface.Cylinder(), about); break;
        case GeomAbs_Cone: primitive = Turned(surface.Cone(), about); break;
        case GeomAbs_Sphere: primitive = Turned(surface.Sphere(), about); break;
        case GeomAbs_Torus: primitive = Turned(surface.Torus(), about); break;
        default:
            BRepAdaptor_Surface within(face, Standard_True); // the face's part of it alone
            primitive = Spanned(within, about);
            knots = knots_of(within, true);
        }
    }
};

// Where a curve in the parameters crosses the knots of the surface, F has corners.
std::vector<double> with_knots(const Geom2dAdaptor_Curve &curve, const std::vector<double> &ends,
                               const std::vector<double> &knots) {
    std::vector<double> all = ends;
    for (size_t i = 1; i < ends.size(); i++)
        for (double knot : knots) {
            double from = ends[i - 1], to = ends[i];
            bool below = curve.Value(from).X() < knot;
            if (below == (curve.Value(to).X() < knot)) continue;
            for (int halving = 0; halving < 50; halving++) {
                double middle = 0.5 * (from + to);
                ((curve.Value(middle).X() < knot) == below ? from : to) = middle;
            }
            all.push_back(from);
        }
    std::sort(all.begin(), all.end());
    return all;
}

// ∫ F du.
Sums edge_sums(const TopoDS_Edge &edge, const TopoDS_Face &face, const Curved &curved) {
    double first, last;
    Handle(Geom2d_Curve) geometry = BRep_Tool::CurveOnSurface(edge, face, first, last);
    if (geometry.IsNull()) return {};
    Geom2dAdaptor_Curve curve(geometry, first, last);
    if (curve.GetType() == GeomAbs_Line && curve.Line().Direction().X() == 0) return {}; // du = 0
    auto along = [&](double t) {
        gp_Pnt2d p;
        gp_Vec2d d;
        curve.D1(t, p, d);
        return curved.primitive(p.X(), p.Y()) * d.X();
    };
    Sums sum;
    std::vector<double> ends = with_knots(curve, smooth_pieces(curve), curved.knots);
    for (size_t i = 1; i < ends.size(); i++) {
        double from = ends[i - 1], to = ends[i];
        sum = sum + adaptive(along, from, to, allowed_error(along, from, to), HALVINGS_MAX);
    }
    return sum;
}

Sums curved_sums(const TopoDS_Face &face, const BRepAdaptor_Surface &surface, const gp_XYZ &about) {
    Curved curved(face, surface, about);
    Sums sum;
    for (TopExp_Explorer at(face, TopAbs_EDGE); at.More(); at.Next()) {
        double along = direction(at.Current());
        if (along == 0) continue;
        sum = sum - edge_sums(TopoDS::Edge(at.Current()), face, curved) * along;
    }
    return sum;
}

// Near the shape, so that numbers stay small: the mean of its vertices.
gp_XYZ middle_of(const TopoDS_Shape &shape) {
    gp_XYZ sum;
    int count = 0;
    for (TopExp_Explorer at(shape, TopAbs_VERTEX); at.More(); at.Next(), count++)
        sum += BRep_Tool::Pnt(TopoDS::Vertex(at.Current())).XYZ();
    return count ? sum / count : sum;
}

} // namespace

cad::Contents cad::shape_contents(const TopoDS_Shape &shape) {
    Contents contents = {0, 0, 0};
    gp_XYZ about = middle_of(shape);
    for (TopExp_Explorer at(shape, TopAbs_FACE); at.More(); at.Next()) {
        double side = direction(at.Current());
        if (side == 0) continue;
        const TopoDS_Face face = TopoDS::Face(at.Current().Oriented(TopAbs_FORWARD));
        BRepAdaptor_Surface surface(face, Standard_False);
        bool plane = surface.GetType() == GeomAbs_Plane;
        Sums sums =
            plane ? plane_sums(face, surface.Plane(), about) : curved_sums(face, surface, about);
        contents.volume += side * sums.volume / 3;
        contents.area += sums.area;
        if (!plane) contents.curved_area += sums.area;
    }
    return contents;
}

double cad::shape_volume(const TopoDS_Shape &shape) {
    return shape_contents(shape).volume;
}

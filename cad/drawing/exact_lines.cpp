// Exact curves by HLRBRep_Algo. Most solids take milliseconds, some seconds, and it cannot be
// interrupted: so a forked child computes, writes its strokes into a pipe, and is killed when its
// time is up. (The worker that this runs in has one thread and neither MPI nor CUDA.)
#include "cad/drawing/exact_lines.hpp"

#include <BRepAdaptor_Curve.hxx>
#include <BRepLib.hxx>
#include <GCPnts_TangentialDeflection.hxx>
#include <HLRAlgo_Projector.hxx>
#include <HLRBRep_Algo.hxx>
#include <HLRBRep_HLRToShape.hxx>
#include <TopExp_Explorer.hxx>
#include <TopoDS.hxx>
#include <cerrno>
#include <cstdlib>
#include <gp_Ax2.hxx>
#include <gp_Circ.hxx>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include "core/clock.h"
}

namespace {

constexpr double MERGE = 0.25; // of the tolerance: lines nearer than this are one
constexpr double SMOOTH_ANGLE = 0.02;
constexpr double CURVE_TURN = 0.15;
constexpr int COUNT_MAX = 1 << 22; // strokes or points of a view; more is a broken pipe

void add_curve(cad::StrokeSet *strokes, StrokeKind kind, const TopoDS_Edge &edge,
               double tolerance) {
    BRepAdaptor_Curve curve(edge);
    double first = curve.FirstParameter(), last = curve.LastParameter();
    auto point = [&](double t) {
        gp_Pnt p = curve.Value(t);
        return vec2(p.X(), p.Y());
    };
    if (curve.GetType() == GeomAbs_Line) {
        strokes->add_segment(kind, point(first), point(last));
    } else if (curve.GetType() == GeomAbs_Circle) {
        gp_Circ circle = curve.Circle();
        Vec2 center = vec2(circle.Location().X(), circle.Location().Y());
        Vec2 from = point(circle.Axis().Direction().Z() > 0 ? first : last);
        strokes->add_arc(kind, center, circle.Radius(),
                         std::atan2(from.y - center.y, from.x - center.x), last - first);
    } else {
        std::vector<Vec2> points;
        GCPnts_TangentialDeflection chords(curve, first, last, CURVE_TURN, tolerance, 2);
        for (int i = 1; i <= chords.NbPoints(); i++) points.push_back(point(chords.Parameter(i)));
        strokes->add_path(kind, points);
    }
}

void add_compound(cad::StrokeSet *strokes, StrokeKind kind, const TopoDS_Shape &compound,
                  double tolerance) {
    if (compound.IsNull()) return;
    BRepLib::BuildCurves3d(compound);
    for (TopExp_Explorer at(compound, TopAbs_EDGE); at.More(); at.Next())
        add_curve(strokes, kind, TopoDS::Edge(at.Current()), tolerance);
}

ViewLines compute(const TopoDS_Shape &shape, DrawView view, double tolerance) {
    Vec3 n, x;
    view_axes(view, &n, &x);
    Handle(HLRBRep_Algo) hider = new HLRBRep_Algo();
    hider->Add(shape, 0);
    gp_Ax2 axes(gp_Pnt(0, 0, 0), gp_Dir(n.x, n.y, n.z), gp_Dir(x.x, x.y, x.z));
    hider->Projector(HLRAlgo_Projector(axes));
    hider->Update();
    hider->Hide();
    HLRBRep_HLRToShape result(hider);
    cad::StrokeSet strokes(MERGE * tolerance);
    add_compound(&strokes, STROKE_VISIBLE, result.VCompound(), tolerance);
    add_compound(&strokes, STROKE_VISIBLE, result.OutLineVCompound(), tolerance);
    if (view == VIEW_ISO) {
        add_compound(&strokes, STROKE_SMOOTH, result.Rg1LineVCompound(), tolerance);
    } else {
        add_compound(&strokes, STROKE_HIDDEN, result.HCompound(), tolerance);
        add_compound(&strokes, STROKE_HIDDEN, result.OutLineHCompound(), tolerance);
    }
    ViewLines lines = {};
    strokes.finish(&lines);
    return lines;
}

// ---- the child ----

void send(int fd, const void *bytes, size_t size) {
    const char *at = static_cast<const char *>(bytes);
    while (size) {
        ssize_t wrote = write(fd, at, size);
        if (wrote <= 0) _exit(1);
        at += wrote;
        size -= size_t(wrote);
    }
}

[[noreturn]] void compute_and_send(int fd, const TopoDS_Shape &shape, const LineOptions &options) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
        BRepLib::EncodeRegularity(shape, SMOOTH_ANGLE); // else tangent edges count as corners
        for (int view = 0; view < VIEW_COUNT; view++) {
            if (!(options.views & (1u << view))) continue;
            ViewLines lines = compute(shape, DrawView(view), options.tolerance);
            send(fd, &lines.stroke_count, sizeof lines.stroke_count);
            send(fd, &lines.point_count, sizeof lines.point_count);
            send(fd, lines.strokes, size_t(lines.stroke_count) * sizeof *lines.strokes);
            send(fd, lines.points, size_t(lines.point_count) * sizeof *lines.points);
        }
    } catch (...) {
        _exit(1);
    }
    _exit(0);
}

// ---- the parent ----

bool receive(int fd, void *bytes, size_t size, double deadline) {
    char *at = static_cast<char *>(bytes);
    while (size) {
        double left = deadline - clock_seconds();
        if (left <= 0) return false;
        pollfd wait = {fd, POLLIN, 0};
        int ready = poll(&wait, 1, int(left * 1000) + 1);
        if (ready == 0) return false;
        if (ready < 0 && errno == EINTR) continue;
        ssize_t got = read(fd, at, size);
        if (got <= 0) return false;
        at += got;
        size -= size_t(got);
    }
    return true;
}

bool receive_lines(int fd, ViewLines *lines, double deadline) {
    if (!receive(fd, &lines->stroke_count, sizeof lines->stroke_count, deadline) ||
        !receive(fd, &lines->point_count, sizeof lines->point_count, deadline))
        return false;
    if (lines->stroke_count < 0 || lines->stroke_count > COUNT_MAX || lines->point_count < 0 ||
        lines->point_count > COUNT_MAX)
        return false;
    size_t strokes = size_t(lines->stroke_count) * sizeof *lines->strokes;
    size_t points = size_t(lines->point_count) * sizeof *lines->points;
    lines->strokes = static_cast<Stroke *>(std::malloc(strokes + 1));
    lines->points = static_cast<Vec2 *>(std::malloc(points + 1));
    if (!lines->strokes || !lines->points) throw std::bad_alloc();
    return receive(fd, lines->strokes, strokes, deadline) &&
           receive(fd, lines->points, points, deadline);
}

// What stays of a view that was drawn by chords: its marks and its extent.
void take_strokes(ViewLines *lines, ViewLines *exact) {
    std::swap(lines->strokes, exact->strokes);
    std::swap(lines->stroke_count, exact->stroke_count);
    std::swap(lines->points, exact->points);
    std::swap(lines->point_count, exact->point_count);
}

} // namespace

bool cad::exact_lines(ViewLines lines[VIEW_COUNT], const TopoDS_Shape &shape,
                      const LineOptions &options) {
    int ends[2];
    if (pipe(ends) != 0) return false;
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        compute_and_send(ends[1], shape, options);
    }
    close(ends[1]);
    ViewLines exact[VIEW_COUNT] = {};
    bool done = child > 0;
    double deadline = clock_seconds() + options.exact_seconds;
    for (int view = 0; view < VIEW_COUNT && done; view++)
        if (options.views & (1u << view)) done = receive_lines(ends[0], &exact[view], deadline);
    close(ends[0]);
    if (child > 0) {
        kill(child, SIGKILL);
        while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
        }
    }
    for (int view = 0; view < VIEW_COUNT; view++) {
        if (done && (options.views & (1u << view))) take_strokes(&lines[view], &exact[view]);
        view_lines_free(&exact[view]);
    }
    return done;
}

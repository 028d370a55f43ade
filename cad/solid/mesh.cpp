// Triangles of a solid.
#include "cad/solid/mesh.hpp"

#include <BRepMesh_IncrementalMesh.hxx>
#include <BRep_Tool.hxx>
#include <IMeshData_Status.hxx>
#include <IMeshTools_Parameters.hxx>
#include <Poly_Triangulation.hxx>
#include <TopExp_Explorer.hxx>
#include <TopoDS.hxx>
#include <utility>

bool cad::mesh_shape(const TopoDS_Shape &shape, double deflection, double angle,
                     double inner_deflection) {
    IMeshTools_Parameters parameters;
    parameters.Deflection = deflection;
    parameters.Angle = angle;
    if (inner_deflection > 0) parameters.DeflectionInterior = inner_deflection;
    parameters.InParallel = Standard_False;
    BRepMesh_IncrementalMesh mesh(shape, parameters);
    return !(mesh.GetStatusFlags() & IMeshData_Failure);
}

void cad::face_triangles(const TopoDS_Face &face, std::vector<Triangle> *out) {
    TopLoc_Location location;
    Handle(Poly_Triangulation) mesh = BRep_Tool::Triangulation(face, location);
    if (mesh.IsNull()) return;
    bool reversed = face.Orientation() == TopAbs_REVERSED;
    for (int i = 1; i <= mesh->NbTriangles(); i++) {
        int index[3];
        mesh->Triangle(i).Get(index[0], index[1], index[2]);
        Triangle triangle;
        for (int c = 0; c < 3; c++)
            triangle.corner[c] = mesh->Node(index[c]).Transformed(location.Transformation()).XYZ();
        if (reversed) std::swap(triangle.corner[1], triangle.corner[2]);
        gp_XYZ a = triangle.corner[1] - triangle.corner[0],
               b = triangle.corner[2] - triangle.corner[0];
        if (a.CrossSquareMagnitude(b) > 0) out->push_back(triangle);
    }
}

std::vector<cad::Triangle> cad::shape_triangles(const TopoDS_Shape &shape) {
    std::vector<Triangle> triangles;
    for (TopExp_Explorer face(shape, TopAbs_FACE); face.More(); face.Next())
        face_triangles(TopoDS::Face(face.Current()), &triangles);
    return triangles;
}

double cad::mesh_volume(const std::vector<Triangle> &triangles) {
    double sum = 0;
    gp_XYZ about = triangles.empty() ? gp_XYZ() : triangles[0].corner[0];
    for (const Triangle &t : triangles) {
        gp_XYZ a = t.corner[0] - about, b = t.corner[1] - about, c = t.corner[2] - about;
        sum += a.Dot(b.Crossed(c)) / 6;
    }
    return sum;
}

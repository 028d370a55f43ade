/* cad: volumes and areas of solids with cones, spheres, tori and splines, against formulas. */
#include "cad/solid/score.h"
#include "core/file.h"
#include "tests/cad/known_solids.h"
#include "tests/cad/pool_fixture.h"

static Solid *solid_of(int index, Place place) {
    solid_quiet();
    Solid *solid = known_solid_new(index, place);
    ASSERT(solid, "the kernel does not make: %s", known_solid(index).name);
    return solid;
}

TEST(volumes_and_areas_are_those_of_the_formulas) {
    for (int i = 0; i < known_solid_count(); i++)
        for (Place place = AT_HOME; place < PLACE_COUNT; place++) {
            KnownSolid known = known_solid(i);
            Solid *solid = solid_of(i, place);
            SolidFacts facts;
            SolidNote note;
            CadStatus status = solid_check(solid, &facts, &note);
            printf("%s %s: %s %s, volume %.9g of %.9g, area %.9g of %.9g\n", known.name,
                   place_name(place), cad_status_name(status), note.text, facts.volume,
                   known.volume, facts.area, known.area);
            ASSERT_INT(status, ==, CAD_OK);
            ASSERT_NEAR(facts.volume, known.volume, 1e-7 * known.volume);
            if (isfinite(known.area)) ASSERT_NEAR(facts.area, known.area, 1e-7 * known.area);
            solid_free(&solid);
        }
}

TEST(step_files_keep_the_measures_of_round_solids) {
    CadPool *pool = open_pool(1, (CadLimits){0});
    for (int i = 0; i < known_solid_count(); i++) {
        KnownSolid known = known_solid(i);
        Solid *solid = solid_of(i, FAR_AWAY);
        const char *path = test_path("known.step");
        Buf file = {0};
        ASSERT_OK(solid_to_step(&file, solid));
        ASSERT_OK(file_write(path, file.data, file.size));
        buf_free(&file);
        CadReply reply;
        ASSERT_OK(cad_pool_run(pool, &(CadRequest){.step_path = path}, &reply));
        expect(known.name, reply, CAD_OK, "");
        ASSERT_NEAR(reply.volume, known.volume, 1e-6 * known.volume);
        solid_free(&solid);
    }
    cad_pool_close(&pool);
}

/* ---- intersection over union ---- */

static CadScore score_of(Solid *solid, Solid *reference) {
    CadScore score;
    ASSERT_TRUE(solid && reference);
    cad_score_clear(&score);
    score_solids(&score, solid, reference, 1024, true);
    printf("IoU %.6f (%s), aligned %.6f\n", score.iou, score.iou_exact ? "exact" : "columns",
           score.iou_aligned);
    solid_free(&solid);
    solid_free(&reference);
    return score;
}

static double iou_of(double common, double a, double b) {
    return common / (a + b - common);
}

TEST(round_solids_share_what_the_formulas_say) {
    /* Two spheres of radius r at a distance d have a lens of π (4r + d) (2r - d)² / 12 in common.
     */
    double r = 7, d = 5, lens = M_PI * (4 * r + d) * (2 * r - d) * (2 * r - d) / 12;
    double ball = 4 * M_PI / 3 * r * r * r;
    CadScore score = score_of(named_solid_new("sphere", d), named_solid_new("sphere", 0));
    ASSERT_TRUE(score.iou_exact);
    ASSERT_NEAR(score.iou, iou_of(lens, ball, ball), 1e-6);
    ASSERT_NEAR(score.iou_aligned, 1, 1e-6);

    /* The same as splines: the volumes are those of the same formula. */
    score = score_of(named_solid_new("sphere as splines", d), named_solid_new("sphere", 0));
    ASSERT_NEAR(score.iou, iou_of(lens, ball, ball), 1e-4); /* the boolean's curves are 1e-5 off */

    /* A cone fills a third of the cylinder around it, a frustum 7/12. */
    score = score_of(named_solid_new("cone", 0), named_solid_new("cylinder as splines", 0));
    ASSERT_NEAR(score.iou, 1.0 / 3, 1e-6);
    score = score_of(named_solid_new("frustum", 0), named_solid_new("cylinder as splines", 0));
    ASSERT_NEAR(score.iou, 7.0 / 12, 1e-6);
}

/* Two equal cones or frustums side by side: at each height, two circles share a lens. */
static double shared_by_frustums(double low, double high, double height, double apart) {
    enum { STEPS = 20000 };
    double sum = 0;
    for (int i = 0; i < STEPS; i++) {
        double r = low + (high - low) * (i + 0.5) / STEPS;
        if (2 * r <= apart) continue;
        sum += 2 * r * r * acos(apart / (2 * r)) - apart / 2 * sqrt(4 * r * r - apart * apart);
    }
    return sum * height / STEPS;
}

TEST(frustums_side_by_side_share_their_lenses) {
    double volume = M_PI * 20 / 3 * (100 + 50 + 25), common = shared_by_frustums(10, 5, 20, 5);
    CadScore score = score_of(named_solid_new("frustum", 5), named_solid_new("frustum", 0));
    printf("by hand %.6f\n", iou_of(common, volume, volume));
    ASSERT_TRUE(score.iou_exact);
    ASSERT_NEAR(score.iou, iou_of(common, volume, volume), 1e-5);

    volume = M_PI * 2000 / 3;
    common = shared_by_frustums(10, 0, 20, 5);
    score = score_of(named_solid_new("cone", 5), named_solid_new("cone", 0));
    printf("by hand %.6f\n", iou_of(common, volume, volume));
    ASSERT_NEAR(score.iou, iou_of(common, volume, volume), 1e-5);
}

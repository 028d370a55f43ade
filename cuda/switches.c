#include "cuda/switches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static CudaSwitches switches;

/* Which of `values` a variable has; -1: it is not set, or empty. */
static Err choose(int *chosen, const char *name, const char *const values[2]) {
    const char *value = getenv(name);
    *chosen = -1;
    if (!value || !value[0]) return OK;
    for (int i = 0; i < 2; i++)
        if (values[i] && !strcmp(value, values[i])) *chosen = i;
    REQUIRE(*chosen >= 0, ERR_CONFIG, "%s is %s in the environment; %s%s%s is expected, or nothing",
            name, value, values[0], values[1] ? " or " : "", values[1] ? values[1] : "");
    return OK;
}

Err cuda_switches_read(void) {
    int sync, tune, products, attention;
    TRY(choose(&sync, "CADVLM_CUDA_SYNC", (const char *const[]){"0", "1"}));
    TRY(choose(&tune, "CADVLM_CUDA_TUNE", (const char *const[]){"0", "1"}));
    TRY(choose(&products, "CADVLM_CUDA_PRODUCTS", (const char *const[]){"unfused", "plain"}));
    TRY(choose(&attention, "CADVLM_CUDA_ATTENTION", (const char *const[]){"plain", NULL}));
    switches = (CudaSwitches){.sync = sync == 1,
                              .tune = tune == 1,
                              .unfused = products == 0,
                              .plain_products = products == 1,
                              .plain_attention = attention == 0};
    return OK;
}

const CudaSwitches *cuda_switches(void) {
    return &switches;
}

const char *cuda_switches_text(void) {
    static char text[128];
    snprintf(text, sizeof text, "%s%s%s%s%s", switches.sync ? ", waits after each operation" : "",
             switches.tune ? ", tuned products" : "", switches.unfused ? ", unfused products" : "",
             switches.plain_products ? ", plain products" : "",
             switches.plain_attention ? ", plain attention" : "");
    return text;
}

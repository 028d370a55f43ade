/* The README.md beside weights that are passed on: base, data, licences, recipe, figures. */
#ifndef CADVLM_EXPORT_MODEL_CARD_H
#define CADVLM_EXPORT_MODEL_CARD_H

#include <stdbool.h>

#include "core/buf.h"

typedef struct ModelCardLine {
    const char *name, *value;
} ModelCardLine;

typedef struct ModelCard {
    const char *base_model;             /* hub id or folder; NULL: none */
    bool base_on_hub;                   /* it is a hub id */
    bool has_code;                      /* config.json names code that transformers loads it with */
    const char *llm_name, *vision_name; /* hub ids of the base's components; NULL: unknown */
    const ModelCardLine *data;          /* name, licence (NULL: not stated) */
    int data_count;
    const ModelCardLine *recipe; /* what was trained and how */
    int recipe_count;
    const ModelCardLine *figures; /* what it reaches */
    int figure_count;
    const char *program; /* "cadvlm 0.3.0" */
} ModelCard;

typedef enum ModelCardKind { MODEL_CARD_ADAPTER, MODEL_CARD_MERGED } ModelCardKind;

/* Appends the text of README.md. */
void model_card_print(Buf *out, const ModelCard *card, ModelCardKind kind);

#endif

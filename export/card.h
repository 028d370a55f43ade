/* The README.md beside weights that are passed on: base, data, licences, recipe, figures. */
#ifndef CADVLM_EXPORT_CARD_H
#define CADVLM_EXPORT_CARD_H

#include <stdbool.h>

#include "core/buf.h"

typedef struct CardLine {
    const char *name, *value;
} CardLine;

typedef struct ModelCard {
    const char *base_model;             /* hub id or folder; NULL: none */
    bool base_on_hub;                   /* it is a hub id */
    bool has_code;                      /* config.json names code that transformers loads it with */
    const char *llm_name, *vision_name; /* hub ids of the base's parts; NULL: unknown */
    const CardLine *data;               /* name, licence (NULL: not stated) */
    int data_count;
    const CardLine *recipe; /* what was trained and how */
    int recipe_count;
    const CardLine *figures; /* what it reaches */
    int figure_count;
    const char *program; /* "cadvlm 0.3.0" */
} ModelCard;

typedef enum CardKind { CARD_ADAPTER, CARD_MERGED } CardKind;

/* Appends the text of README.md. */
void card_print(Buf *out, const ModelCard *card, CardKind kind);

#endif

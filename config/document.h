/* The YAML document of a config, which may come with a downloaded model: of bounded size and depth,
 * one document, without what can grow (aliases) or means something to other programs (tags). */
#ifndef CADVLM_CONFIG_DOCUMENT_H
#define CADVLM_CONFIG_DOCUMENT_H

#include <stdbool.h>
#include <yaml.h>

#include "core/err.h"

/* Reads `text`; ERR_CONFIG otherwise, *line says where. Free with
 * yaml_document_delete. */
Err document_read(yaml_document_t *out, const char *text, size_t size, size_t *line);

/* The text of a scalar, and the line where a node begins. */
const char *node_text(const yaml_node_t *node);
size_t node_line(const yaml_node_t *node);

/* A plain scalar that stands for nothing: empty, ~ or null. */
bool node_is_null(const yaml_node_t *node);

#endif

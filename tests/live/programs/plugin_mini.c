/* SPDX-License-Identifier: Apache-2.0 */
/* A plug-in that has spans by nopspan_mini.h, with the functions of plugin.cpp. */
#define NPM_IMPLEMENTATION
#include <nopspan_mini.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED void plugin_span(const char* name);
EXPORTED unsigned long plugin_gate(void);

void plugin_span(const char* name) { npm_span_end(npm_span_begin(name, npm_none())); }
unsigned long plugin_gate(void) { return npm1_gate[0]; }

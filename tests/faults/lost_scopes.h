// SPDX-License-Identifier: Apache-2.0
// Functions that lose a scope if `work` throws.
#pragma once

#include <nopspan/context.h>

void lose_scope(const nopspan::Context& context, void (*work)());
void lose_span(const nopspan::Context& context, void (*work)());

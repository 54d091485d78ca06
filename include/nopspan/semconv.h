// SPDX-License-Identifier: Apache-2.0
#ifndef NOPSPAN_SEMCONV_H
#define NOPSPAN_SEMCONV_H

#include <nopspan/config.h>

#include <string_view>

#endif  // NOPSPAN_SEMCONV_H

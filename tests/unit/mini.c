/* SPDX-License-Identifier: Apache-2.0 */
#define NPM_IMPLEMENTATION
#include <nopspan_mini.h>

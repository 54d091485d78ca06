/* SPDX-License-Identifier: Apache-2.0 */
#include <nopspan_mini.h> /* as by a header of the project */
#define NPM_IMPLEMENTATION
#include <nopspan_mini.h>

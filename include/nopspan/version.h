// SPDX-License-Identifier: Apache-2.0
// The one place where the version stands: CMake, pkg-config and the library read it from here.
#ifndef NOPSPAN_VERSION_H
#define NOPSPAN_VERSION_H

#define NOPSPAN_VERSION_MAJOR 0
#define NOPSPAN_VERSION_MINOR 1
#define NOPSPAN_VERSION_PATCH 0

#endif  // NOPSPAN_VERSION_H

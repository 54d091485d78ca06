// SPDX-License-Identifier: Apache-2.0
/// @file
/// The version of nopspan. It is defined only here: CMake and pkg-config read it from this file.
///
/// @code
/// static_assert(NOPSPAN_VERSION_MAJOR == 0 && NOPSPAN_VERSION_MINOR >= 3, "needs nopspan 0.3");
/// @endcode
#ifndef NOPSPAN_VERSION_H
#define NOPSPAN_VERSION_H

#define NOPSPAN_VERSION_MAJOR 0  ///< changes with incompatible releases, from 1.0 on
#define NOPSPAN_VERSION_MINOR 3  ///< changes with new features; before 1.0 with incompatible releases
#define NOPSPAN_VERSION_PATCH 0  ///< changes with fixes

#endif  // NOPSPAN_VERSION_H

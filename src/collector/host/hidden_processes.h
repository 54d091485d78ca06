// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nopspan::collector {

// Says on stderr that other users' processes cannot be seen, if this program lacks what that needs. For commands that
// look at all processes of a host: their silence would say that there are none.
void warn_of_hidden_processes();

}  // namespace nopspan::collector

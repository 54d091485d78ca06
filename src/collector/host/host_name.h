// SPDX-License-Identifier: Apache-2.0
// The name of this host, also in a namespace that has another one.
#pragma once

#include <string>
#include <string_view>

namespace nopspan::collector {

// This host's name: the kernel's, or in a container that of the first process's /etc/hostname, if this program may read
// it. "" if it has none.
const std::string& host_name();

// The name in the text of an /etc/hostname; "" if it has none. "localhost" is in many images of systems, and is no
// name.
std::string name_in_hostname_file(std::string_view text);

}  // namespace nopspan::collector

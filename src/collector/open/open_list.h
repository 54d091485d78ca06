// SPDX-License-Identifier: Apache-2.0
// The list of requests in flight, as text and as JSON.
#pragma once

#include "open/open_requests.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace nopspan::collector {

// A row for each place at which a request is now, and for each request that is known by a key only. "" if there is
// none.
std::string open_text(const std::vector<OpenRequest>& requests, const std::vector<OpenProcess>& processes);
// Since when the requests of these processes are known; "" if all are known. Lines that end with a newline.
std::string known_text(const std::vector<OpenProcess>& processes);

nlohmann::ordered_json to_json(const OpenRequest& request, const std::vector<OpenProcess>& processes);
nlohmann::ordered_json to_json(const OpenProcess& process);

}  // namespace nopspan::collector

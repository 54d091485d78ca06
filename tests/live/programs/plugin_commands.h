// SPDX-License-Identifier: Apache-2.0
// Commands that load, call and unload a plug-in.
#pragma once

#include "commands.h"

#include <dlfcn.h>

inline void add_plugin_commands(Commands& commands) {
  static void* plugin = nullptr;
  commands["load"] = [](std::istringstream& arguments) -> std::string {
    plugin = dlopen(word(arguments).c_str(), RTLD_NOW | RTLD_LOCAL);
    return plugin != nullptr ? "loaded" : dlerror();
  };
  // The plug-in brings copies of all its libraries.
  commands["load_apart"] = [](std::istringstream& arguments) -> std::string {
    plugin = dlmopen(LM_ID_NEWLM, word(arguments).c_str(), RTLD_NOW);
    return plugin != nullptr ? "loaded" : dlerror();
  };
  commands["unload"] = [](std::istringstream&) -> std::string { return dlclose(plugin) == 0 ? "unloaded" : dlerror(); };
  commands["plugin_span"] = [](std::istringstream& arguments) -> std::string {
    reinterpret_cast<void (*)(const char*)>(dlsym(plugin, "plugin_span"))(word(arguments).c_str());
    return "done";
  };
  commands["plugin_gate"] = [](std::istringstream&) {
    return std::to_string(reinterpret_cast<unsigned long (*)()>(dlsym(plugin, "plugin_gate"))());
  };
}

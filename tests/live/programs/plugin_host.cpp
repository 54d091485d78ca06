// SPDX-License-Identifier: Apache-2.0
// A program that does not use nopspan itself, but loads plug-ins that do.
#include "plugin_commands.h"

int main() {
  Commands commands;
  add_plugin_commands(commands);
  return serve(commands);
}

// SPDX-License-Identifier: Apache-2.0
// What plugin.cpp and plugin_contexts.cpp export.
#pragma once

#pragma GCC visibility push(default)
extern "C" {
void plugin_attach();            // begins to count the ends of spans
void plugin_detach();            // ends that
int plugin_ends();               // how many spans have ended since the last call
unsigned long plugin_dropped();  // stats().spans_dropped
void plugin_price();             // sets a table of prices
void plugin_misname();           // makes a span of a name that its catalogue does not have, which is logged
void plugin_raise();             // raises the gate as a tracer does, until the program ends
void plugin_work();              // makes spans
void plugin_templates();         // makes spans by templates of nopspan and std that every plug-in has
void plugin_begin(void* span);   // begins an AsyncSpan in the memory of the caller
void plugin_end(void* span);     // ends it
void plugin_enter(void* scope);  // begins a ContextScope in the memory of the caller
void plugin_leave(void* scope);  // ends it
void plugin_keep(void* scope);   // plugin_finish() ends it
void plugin_finish();            // called at exit() and at dlclose(), after the destructor of the library
}
#pragma GCC visibility pop

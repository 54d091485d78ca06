// SPDX-License-Identifier: Apache-2.0
// Plug-ins that a program loads and unloads. The program does not link nopspan itself.
#include "fault.h"
#include "in_thread.h"
#include "plugin.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <thread>

namespace {

class Plugin {
 public:
  explicit Plugin(const char* path, int scope = RTLD_LOCAL) : path_(path), handle_(dlopen(path, RTLD_NOW | scope)) {
    EXPECT_NE(handle_, nullptr) << dlerror();
  }
  // The function of plugin.h with this name.
  template <class Function>
  Function* find(const char* name) const {
    return reinterpret_cast<Function*>(dlsym(handle_, name));
  }
  void unload() const {
    dlclose(handle_);
    EXPECT_EQ(dlopen(path_, RTLD_NOW | RTLD_NOLOAD), nullptr) << "it is still loaded";
  }
  void unload_in_use() const { dlclose(handle_); }

 private:
  const char* path_;
  void* handle_;
};
#define FIND(plugin, function) (plugin).find<decltype(function)>(#function)

std::ptrdiff_t mappings() {
  std::ifstream maps("/proc/self/maps");
  return std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
}

// Runs `work` on a thread that ends after `then`.
template <class Work, class Then>
void outlive(const Work& work, const Then& then) {
  std::atomic<int> step{0};
  std::thread thread([&] {
    work();
    step = 1;
    while (step != 2) std::this_thread::yield();
  });
  watch("a thread of the plug-in", [&] { return step == 1; });
  then();
  step = 2;
  thread.join();
}

// The lowest key of pthread_key_create() that is not in use.
pthread_key_t free_key() {
  pthread_key_t key = 0;
  EXPECT_EQ(pthread_key_create(&key, nullptr), 0);
  pthread_key_delete(key);
  return key;
}

TEST(PluginFaults, ASpanMayOutliveThePluginThatBeganIt) {
  alignas(void*) unsigned char span[sizeof(void*)];
  const Plugin plugin(NOPSPAN_PLUGIN_SHARED);
  const Plugin host(NOPSPAN_PLUGIN_OTHER);
  FIND(host, plugin_attach)();
  FIND(plugin, plugin_begin)(span);
  plugin.unload();
  FIND(host, plugin_end)(span);
  EXPECT_EQ(FIND(host, plugin_ends)(), 1);
  FIND(host, plugin_detach)();
}

// The dynamic linker binds a function that both plug-ins define, and that is visible, to the first one.
TEST(PluginFaults, ACopyUsesNoFunctionOfAnotherCopy) {
  const auto ends_of = [](const Plugin& plugin) {
    FIND(plugin, plugin_templates)();
    return FIND(plugin, plugin_ends)();
  };
  const Plugin first(NOPSPAN_PLUGIN_FIRST, RTLD_GLOBAL), second(NOPSPAN_PLUGIN_SECOND, RTLD_GLOBAL);
  FIND(first, plugin_attach)();
  const int ends = ends_of(first);
  EXPECT_GT(ends, 0);
  EXPECT_EQ(ends_of(second), 0);
  EXPECT_EQ(FIND(first, plugin_ends)(), 0);
  FIND(second, plugin_attach)();
  EXPECT_EQ(ends_of(second), ends);
  EXPECT_EQ(FIND(first, plugin_ends)(), 0);
  FIND(first, plugin_detach)();
  EXPECT_EQ(ends_of(second), ends);
  FIND(second, plugin_detach)();
}

TEST(PluginFaults, ACopyInAPluginLeavesNothingBehind) {
  std::uint64_t resident = 0;
  std::size_t allocated = 0;
  std::ptrdiff_t mapped = 0;
  ASSERT_EQ(mallopt(M_ARENA_MAX, 1), 1);  // how many malloc makes depends on how the threads meet
  for (int cycle = 0; cycle < (is_long ? 3000 : 300) && !HasFailure(); ++cycle) {
    if (cycle == 50) {
      resident = resident_bytes();
      allocated = mallinfo2().uordblks;
      mapped = mappings();
    }
    const Plugin plugin(NOPSPAN_PLUGIN_STATIC);
    FIND(plugin, plugin_attach)();
    FIND(plugin, plugin_price)();
    in_threads(4, [work = FIND(plugin, plugin_work)](int) { work(); });
    FIND(plugin, plugin_detach)();
    EXPECT_GT(FIND(plugin, plugin_ends)(), 0);
    plugin.unload();
  }
  // libc keeps memory with each thread's stack that it keeps, and how many it keeps depends on how the threads met.
  EXPECT_LT(mallinfo2().uordblks, allocated + 16'384);
  EXPECT_LE(mappings(), mapped + 10);  // thread stacks move; a leak would be over 200
  EXPECT_LT(resident_bytes(), resident + 256 * 1024);
}

TEST(PluginFaults, ACopyInAPluginMayBeUnloadedWhileItIsUsed) {
  for (int cycle = 0; cycle < 10; ++cycle) {
    alignas(void*) unsigned char span[sizeof(void*)];
    const Plugin plugin(NOPSPAN_PLUGIN_STATIC);
    FIND(plugin, plugin_attach)();
    FIND(plugin, plugin_begin)(span);
    outlive(FIND(plugin, plugin_work), [&] {
      FIND(plugin, plugin_detach)();
      plugin.unload_in_use();
    });
  }
}

TEST(PluginFaults, ACopyOfWhichOnlyContextsAreUsedLeavesNoThreadKey) {
  const pthread_key_t key = free_key();
  for (int cycle = 0; cycle < 10; ++cycle) {
    alignas(void*) unsigned char scope[64];
    const Plugin plugin(NOPSPAN_PLUGIN_CONTEXTS);
    const auto enter_and_leave = [&] {
      FIND(plugin, plugin_enter)(scope);
      FIND(plugin, plugin_leave)(scope);
    };
    outlive(enter_and_leave, [&] { plugin.unload(); });
    EXPECT_EQ(free_key(), key);
  }
}

// As at exit(), where other threads and the destructors of other libraries run after the destructor of the library.
TEST(PluginFaults, AScopeMayEndAfterTheDestructorOfItsCopy) {
  for (const bool on_thread : {false, true}) {
    alignas(void*) unsigned char scope[64];
    const Plugin plugin(NOPSPAN_PLUGIN_CONTEXTS);
    const auto enter = [&] { FIND(plugin, plugin_enter)(scope); };
    if (on_thread) {
      std::thread(enter).join();
    } else {
      enter();
    }
    FIND(plugin, plugin_keep)(scope);
    plugin.unload();
  }
}

TEST(PluginFaults, ACopyInAPluginMayBeUnloadedWhileTheProcessForks) {
  expect_in_child([] {
    static Plugin* plugin = nullptr;
    // Called after that of the plug-in, because it is registered before.
    pthread_atfork([] { plugin->unload(); }, nullptr, nullptr);
    Plugin loaded(NOPSPAN_PLUGIN_STATIC);
    plugin = &loaded;
    FIND(loaded, plugin_attach)();
    FIND(loaded, plugin_detach)();
    const pid_t child = fork();
    if (child == 0) _exit(0);
    EXPECT_EQ(wait_for(child), "");
  });
}

TEST(PluginFaults, ASpanMayBeginWhileTheProcessForks) {
  expect_in_child([] {
    static void (*misname)() = nullptr;
    // Called between the plug-in's own, because they are registered before.
    pthread_atfork([] { misname(); }, nullptr, nullptr);
    for (const char* const path : {NOPSPAN_PLUGIN_SHARED, NOPSPAN_PLUGIN_STATIC}) {
      const Plugin plugin(path);
      misname = FIND(plugin, plugin_misname);
      FIND(plugin, plugin_attach)();
      for (const bool has_state : {false, true}) {
        if (has_state) FIND(plugin, plugin_work)();
        const pid_t child = fork();
        if (child == 0) _exit(0);
        EXPECT_EQ(wait_for(child), "");
      }
      FIND(plugin, plugin_detach)();
    }
  });
}

TEST(PluginFaults, SpansAreDroppedWhileTheProcessHasNoThreadKeyLeft) {
  std::vector<pthread_key_t> keys(1);
  while (pthread_key_create(&keys.back(), nullptr) == 0) keys.push_back(0);
  keys.pop_back();
  const Plugin plugin(NOPSPAN_PLUGIN_STATIC);
  FIND(plugin, plugin_attach)();
  const unsigned long before = FIND(plugin, plugin_dropped)();
  std::thread(FIND(plugin, plugin_work)).join();
  EXPECT_EQ(FIND(plugin, plugin_ends)(), 0);
  EXPECT_GT(FIND(plugin, plugin_dropped)(), before);
  for (const pthread_key_t key : keys) pthread_key_delete(key);
  std::thread(FIND(plugin, plugin_work)).join();
  EXPECT_GT(FIND(plugin, plugin_ends)(), 0);
  FIND(plugin, plugin_detach)();
  plugin.unload();
}

TEST(PluginFaults, ALibraryMayBeLoadedAfterManyThreadKeys) {
  pthread_key_t key = 0;
  for (int i = 0; i < 40; ++i) ASSERT_EQ(pthread_key_create(&key, nullptr), 0);
  EXPECT_GT(key, 32U);  // glibc allocates memory for the values of these keys
  const Plugin plugin(NOPSPAN_PLUGIN_SHARED);
  FIND(plugin, plugin_attach)();
  FIND(plugin, plugin_raise)();
  std::thread(FIND(plugin, plugin_work)).join();
  const int ends = FIND(plugin, plugin_ends)();
  EXPECT_GT(ends, 0);
  constexpr int kThreads = 300;
  const std::uint64_t resident = resident_bytes();
  for (int i = 0; i < kThreads; ++i) std::thread(FIND(plugin, plugin_work)).join();
  EXPECT_EQ(FIND(plugin, plugin_ends)(), ends * kThreads);
  // A thread whose end the library does not see keeps its batch, of 32 KiB.
  EXPECT_LT(resident_bytes(), resident + kThreads * 4096);
  FIND(plugin, plugin_detach)();
}

}  // namespace

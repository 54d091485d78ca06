// SPDX-License-Identifier: Apache-2.0
// The API's TracerProvider, and its installation.
#include "tracer.h"

#include <nopspan/detail/guarded.h>

#include <opentelemetry/trace/noop.h>
#include <opentelemetry/trace/provider.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <typeinfo>
#include <utility>
#include <vector>

#include <pthread.h>
#include <signal.h>
#include <time.h>

namespace nopspan::opentelemetry {
inline namespace NOPSPAN_OPENTELEMETRY_ABI {
namespace {

class TracerProvider;

// The tracers that the program has of nopspan's global provider, made while no SDK was installed. It is never
// destroyed, because tracers may be used until the end of the process.
class Tracers {
 public:
  static Tracers& instance() {
    static Tracers* const tracers = new Tracers;
    return *tracers;
  }

  std::shared_ptr<Tracer> find_or_make(Scope scope) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(all_.begin(), all_.end(), [&](const auto& each) { return each->scope() == scope; });
    if (found != all_.end()) return *found;
    all_.push_back(std::make_shared<Tracer>(std::move(scope), ApiTracer()));
    if (has_enabled<api::trace::Tracer>) watch();
    if (is_watched_) all_.back()->update_enabled();  // otherwise it is enabled
    return all_.back();
  }
  void wrap(api::trace::TracerProvider& provider) {
    const std::lock_guard lock(mutex_);
    for (const auto& each : all_) {
      each->wrap(provider);
      each->update_enabled();
    }
  }

 private:
  // Nothing in the process runs when a tracer attaches: the kernel raises the gate. So a thread looks at it.
  void watch() {
    if (is_watched_) return;
    static std::once_flag once;
    std::call_once(once, [] {
      pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                     [] {
                       Tracers& tracers = instance();
                       const bool was_watched = std::exchange(tracers.is_watched_, false);
                       if (was_watched) tracers.watch();
                       tracers.mutex_.unlock();
                     });
    });
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    is_watched_ = pthread_create(&thread, nullptr, &Tracers::run, nullptr) == 0;
    if (is_watched_) pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  static void* run(void* /*unused*/) {
    constexpr timespec kInterval{0, 100'000'000};
    for (;;) {
      nanosleep(&kInterval, nullptr);
      Tracers& tracers = instance();
      const std::lock_guard lock(tracers.mutex_);
      for (const auto& each : tracers.all_) each->update_enabled();
    }
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<Tracer>> all_;
  bool is_watched_ = false;
};

// Set when a tracer of nopspan is obtained. It shows install() that nopspan is inside of another provider.
thread_local bool is_asked = false;

class TracerProvider final : public api::trace::TracerProvider {
 public:
  TracerProvider(ApiProvider inner, bool is_global) noexcept : inner_(std::move(inner)), is_global_(is_global) {}

#if OPENTELEMETRY_ABI_VERSION_NO >= 2
  ApiTracer GetTracer(api::nostd::string_view name, api::nostd::string_view version, api::nostd::string_view schema_url,
                      const api::common::KeyValueIterable* attributes) noexcept override {
    return make(name, version, schema_url, [&] { return inner_->GetTracer(name, version, schema_url, attributes); });
  }
#else
  ApiTracer GetTracer(api::nostd::string_view name, api::nostd::string_view version,
                      api::nostd::string_view schema_url) noexcept override {
    return make(name, version, schema_url, [&] { return inner_->GetTracer(name, version, schema_url); });
  }
#endif

  // Whether another provider is one of nopspan's, perhaps of another copy of this library.
  static bool is(const api::trace::TracerProvider& other) noexcept {
    const std::type_info* const type = type_of(&other);
    return type != nullptr && std::strcmp(type->name(), typeid(TracerProvider).name()) == 0;
  }

 private:
  // Without memory, the program gets the tracer of the other provider.
  template <class Inner>
  ApiTracer make(api::nostd::string_view name, api::nostd::string_view version, api::nostd::string_view schema_url,
                 const Inner& of_inner) noexcept {
    is_asked = true;
    ApiTracer made;
    detail::guarded([&] {
      Scope scope{std::string(text_of(name).view()), std::string(text_of(version).view()),
                  std::string(text_of(schema_url).view())};
      if (is_global_ && inner_ == nullptr) {
        made = std::shared_ptr<api::trace::Tracer>(Tracers::instance().find_or_make(std::move(scope)));
      } else {
        auto tracer = std::make_shared<Tracer>(std::move(scope), inner_ != nullptr ? of_inner() : ApiTracer());
        made = std::shared_ptr<api::trace::Tracer>(std::move(tracer));
      }
    });
    if (made != nullptr) return made;
    if (inner_ != nullptr) return of_inner();
    static api::trace::NoopTracer noop;
    return ApiTracer(std::shared_ptr<api::trace::Tracer>(std::shared_ptr<api::trace::Tracer>(), &noop));
  }

  const ApiProvider inner_;
  const bool is_global_;
};

ApiProvider provider_around(const ApiProvider& inner, bool is_global) noexcept {
  ApiProvider made;
  detail::guarded(
      [&] { made = std::shared_ptr<api::trace::TracerProvider>(std::make_shared<TracerProvider>(inner, is_global)); });
  return made;
}

}  // namespace

bool install() noexcept {
  ApiProvider current = api::trace::Provider::GetTracerProvider();
  if (current != nullptr && TracerProvider::is(*current)) return true;
  detail::guarded([&] {
    const api::trace::NoopTracerProvider noop;
    if (current != nullptr && have_one_type(current.get(), &noop)) current = ApiProvider();
  });
  if (current != nullptr) {
    is_asked = false;
    current->GetTracer("nopspan");
    if (is_asked) return true;
  }
  const ApiProvider made = provider_around(current, true);
  if (made == nullptr) return false;
  api::trace::Provider::SetTracerProvider(made);
  if (current != nullptr) detail::guarded([&] { Tracers::instance().wrap(*current); });
  return true;
}

ApiProvider wrap(const ApiProvider& inner) noexcept {
  const ApiProvider made = provider_around(inner, false);
  return made != nullptr ? made : inner;
}

}  // namespace NOPSPAN_OPENTELEMETRY_ABI
}  // namespace nopspan::opentelemetry

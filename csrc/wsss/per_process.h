// One object of a kind for each process.
#pragma once

#include <atomic>

#if defined(_WIN32)
#include <process.h>
#else
#include <unistd.h>
#endif

namespace wsss {

inline long current_process_id() {
#if defined(_WIN32)
    return static_cast<long>(_getpid());
#else
    return static_cast<long>(::getpid());
#endif
}

// The T of the calling process, made when first asked for and never destroyed. A forked child gets
// one of its own and abandons its parent's, in which threads are missing and locks may be held.
template <typename T>
T& of_this_process() {
    struct Owned {
        const long process_id;
        T value{};
    };
    // An atomic and no mutex: a mutex could have been held by another thread when we were forked.
    static std::atomic<Owned*> current{nullptr};
    const long process_id = current_process_id();
    Owned* found = current.load();
    if (found != nullptr && found->process_id == process_id) return found->value;
    Owned* fresh = new Owned{process_id};
    if (current.compare_exchange_strong(found, fresh)) return fresh->value;
    delete fresh;
    return found->value;  // another thread of this process was first
}

}  // namespace wsss

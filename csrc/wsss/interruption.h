// Gives a long call up between two pieces of its work, on behalf of who waits for it.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <thread>
#include <utility>

namespace wsss {

// Thrown in each thread of a call that has been given up.
struct GivenUp : std::exception {
    const char* what() const noexcept override { return "the call was given up"; }
};

// Of one call; made by the thread that waits for it, and asked by all that work for it.
class Interruption {
  public:
    // `poll` throws to give the call up. It is called in the maker's thread, now and then; empty:
    // never given up.
    explicit Interruption(std::function<void()> poll = {}) : poll_(std::move(poll)) {}

    // Throws GivenUp if the call has been.
    void check() {
        if (given_up_.load(std::memory_order_relaxed)) throw GivenUp();
        if (!poll_ || std::this_thread::get_id() != maker_) return;
        const auto now = std::chrono::steady_clock::now();
        if (now - polled_ < kPause) return;
        polled_ = now;
        try {
            poll_();
        } catch (...) {
            reason_ = std::current_exception();
            given_up_ = true;
            throw GivenUp();
        }
    }

    bool polls() const noexcept { return static_cast<bool>(poll_); }

    // What `poll` threw, for the maker, once no other thread works for the call.
    [[noreturn]] void rethrow_reason() const { std::rethrow_exception(reason_); }

    static constexpr std::chrono::milliseconds kPause{20};

  private:
    const std::function<void()> poll_;
    const std::thread::id maker_ = std::this_thread::get_id();
    std::chrono::steady_clock::time_point polled_ = std::chrono::steady_clock::now();
    std::atomic<bool> given_up_{false};
    std::exception_ptr reason_;
};

}  // namespace wsss

// A pool of sleeping std::threads shared by all calls of one process.
//
// Not OpenMP: libgomp hangs in a child forked after its parent used it, which is exactly what a
// torch DataLoader worker is. Here a child starts afresh.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "wsss/interruption.h"

namespace wsss {

class ThreadPool {
  public:
    // The pool of the calling process. Never destroyed: at exit its threads are asleep.
    static ThreadPool& instance();

    // Calls task(0) .. task(n_tasks - 1) on up to `num_threads` threads, the caller included, and
    // returns when all are done. Tasks are handed out one at a time, in order. The first exception
    // of a task is rethrown here once the running tasks have ended; tasks not yet begun are
    // skipped. May be called from several threads at once, and from inside a task. While the caller
    // waits for others it checks `interruption`, if there is one.
    void run(std::size_t n_tasks, std::size_t num_threads,
             const std::function<void(std::size_t)>& task, Interruption* interruption = nullptr);

    ThreadPool() = default;  // use instance()
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

  private:
    struct Job;

    void start_workers(std::size_t count);
    void worker_loop();
    static void work_on(Job& job);

    std::mutex mutex_;
    std::condition_variable job_added_;
    std::condition_variable job_left_;
    std::deque<Job*> jobs_;  // those that still want a helper
    std::vector<std::thread> workers_;
};

}  // namespace wsss

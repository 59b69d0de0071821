#include "wsss/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <system_error>

#include "wsss/per_process.h"

namespace wsss {
namespace {

constexpr std::size_t kMaxWorkers = 256;

}  // namespace

struct ThreadPool::Job {
    const std::function<void(std::size_t)>& task;
    const std::size_t n_tasks;
    std::atomic<std::size_t> next{0};
    std::size_t helpers_wanted;      // guarded by mutex_
    std::size_t helpers_active = 0;  // guarded by mutex_
    std::mutex error_mutex;
    std::exception_ptr error;

    Job(const std::function<void(std::size_t)>& task_, std::size_t n, std::size_t helpers)
        : task(task_), n_tasks(n), helpers_wanted(helpers) {}

    // Ends the job with the exception that is being handled, or an earlier one.
    void fail() {
        const std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store(n_tasks);
    }
};

ThreadPool& ThreadPool::instance() {
    return of_this_process<ThreadPool>();
}

void ThreadPool::run(std::size_t n_tasks, std::size_t num_threads,
                     const std::function<void(std::size_t)>& task, Interruption* interruption) {
    const std::size_t helpers = std::min({num_threads, n_tasks, kMaxWorkers});
    if (helpers <= 1) {
        for (std::size_t i = 0; i < n_tasks; ++i) task(i);
        return;
    }
    Job job(task, n_tasks, helpers - 1);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        start_workers(helpers - 1);
        jobs_.push_back(&job);
    }
    job_added_.notify_all();
    work_on(job);
    {
        std::unique_lock<std::mutex> lock(mutex_);
        jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end());
        const auto all_left = [&] { return job.helpers_active == 0; };
        while (interruption != nullptr && interruption->polls() &&
               !job_left_.wait_for(lock, Interruption::kPause, all_left)) {
            lock.unlock();
            try {
                interruption->check();
            } catch (...) {  // the helpers leave as they check
                job.fail();
                interruption = nullptr;
            }
            lock.lock();
        }
        job_left_.wait(lock, all_left);
    }
    if (job.error) std::rethrow_exception(job.error);
}

void ThreadPool::start_workers(std::size_t count) {
    while (workers_.size() < count) {
        try {
            workers_.emplace_back([this] { worker_loop(); });
        } catch (const std::system_error&) {
            return;  // out of threads: the caller does the work itself
        }
    }
}

void ThreadPool::worker_loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        job_added_.wait(lock, [this] { return !jobs_.empty(); });
        Job& job = *jobs_.front();
        ++job.helpers_active;
        if (--job.helpers_wanted == 0) jobs_.pop_front();
        lock.unlock();
        work_on(job);
        lock.lock();
        // Last touch of `job`: its owner may return as soon as the lock is free.
        if (--job.helpers_active == 0) job_left_.notify_all();
    }
}

void ThreadPool::work_on(Job& job) {
    for (;;) {
        const std::size_t i = job.next.fetch_add(1);
        if (i >= job.n_tasks) return;
        try {
            job.task(i);
        } catch (...) {
            job.fail();
        }
    }
}

}  // namespace wsss

#include "wsss/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <system_error>

#if defined(_WIN32)
#include <process.h>
#else
#include <unistd.h>
#endif

namespace wsss {
namespace {

long current_process_id() {
#if defined(_WIN32)
    return static_cast<long>(_getpid());
#else
    return static_cast<long>(::getpid());
#endif
}

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
};

ThreadPool& ThreadPool::instance() {
    // An atomic and no mutex: a mutex could have been held by another thread when we were forked.
    // The parent's pool is abandoned in the child, whose copy of its threads does not exist.
    static std::atomic<ThreadPool*> current{nullptr};
    const long process_id = current_process_id();
    ThreadPool* pool = current.load();
    if (pool != nullptr && pool->process_id_ == process_id) return *pool;
    ThreadPool* fresh = new ThreadPool(process_id);
    if (current.compare_exchange_strong(pool, fresh)) return *fresh;
    delete fresh;
    return *pool;  // another thread of this process was first
}

void ThreadPool::run(std::size_t n_tasks, std::size_t num_threads,
                     const std::function<void(std::size_t)>& task) {
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
        job_left_.wait(lock, [&] { return job.helpers_active == 0; });
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
            const std::lock_guard<std::mutex> lock(job.error_mutex);
            if (!job.error) job.error = std::current_exception();
            job.next.store(job.n_tasks);
        }
    }
}

}  // namespace wsss

// Lanes are claimed one by one; the caller works too, and waits only for lanes that a helper has claimed, so that a helper
// that the system does not run holds nobody up. Helpers spin for some 100 us, the time between two kernels of a step, and
// then sleep. Nothing here needs C++'s library, which zig would have to build from source first.
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

namespace ddim {
namespace {

constexpr int MOST_THREADS = 64;
constexpr int SPINS = 4000;

struct Job {
  LaneWork work;
  const void* kernel;
  long lanes;
  int threads;
};

pthread_mutex_t callers = PTHREAD_MUTEX_INITIALIZER;  // one kernel at a time; blocks and job are its
int wanted_threads = 1;
int helpers = 0;
float* blocks[MOST_THREADS];
long block_floats[MOST_THREADS];

// A number that threads share; every operation is sequentially consistent.
class Shared {
 public:
  long get() const { return __atomic_load_n(&value_, __ATOMIC_SEQ_CST); }
  void set(long value) { __atomic_store_n(&value_, value, __ATOMIC_SEQ_CST); }
  long take_one() { return __atomic_fetch_add(&value_, 1, __ATOMIC_SEQ_CST); }
  void give_back_one() { __atomic_fetch_sub(&value_, 1, __ATOMIC_SEQ_CST); }

 private:
  long value_ = 0;
};

Job job;
Shared turn;  // odd while a job is open
Shared next_lane;
Shared unfinished;
Shared inside;  // helpers that may be looking at the job
Shared asleep;
pthread_mutex_t bed = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t bell = PTHREAD_COND_INITIALIZER;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  __asm__ volatile("yield");
#endif
}

void work_on_job(float* block) {
  for (;;) {
    const long lane = next_lane.take_one();
    if (lane >= job.lanes) return;
    job.work(job.kernel, lane, block);
    unfinished.give_back_one();
  }
}

void wait_for_turn(long seen) {
  for (int spins = 0; spins < SPINS; spins++) {
    if (turn.get() != seen) return;
    relax();
  }
  pthread_mutex_lock(&bed);
  asleep.take_one();
  while (turn.get() == seen) pthread_cond_wait(&bell, &bed);
  asleep.give_back_one();
  pthread_mutex_unlock(&bed);
}

void* help(void* number) {
  const long thread = reinterpret_cast<long>(number);
  for (long seen = 0;;) {
    wait_for_turn(seen);
    inside.take_one();
    seen = turn.get();
    if ((seen & 1) && thread < job.threads) {
      IeeeArithmetic ieee;
      work_on_job(blocks[thread]);
    }
    inside.give_back_one();
  }
  return nullptr;
}

void wait_until_zero(const Shared& count) {
  for (int spins = 0; count.get() > 0; spins++)
    if (spins < SPINS / 2) relax();
    else sched_yield();
}

bool reserve(int thread, long floats) {
  if (floats <= block_floats[thread]) return true;
  free(blocks[thread]);
  blocks[thread] = nullptr;
  block_floats[thread] = 0;
  void* block = nullptr;
  if (posix_memalign(&block, 64, floats * sizeof(float)) != 0) return false;
  blocks[thread] = static_cast<float*>(block);
  block_floats[thread] = floats;
  return true;
}

// A helper that cannot be had is done without.
void start_helpers(int count) {
  while (helpers < count) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, help, reinterpret_cast<void*>(long{helpers} + 1)) != 0) return;
    pthread_detach(thread);
    helpers++;
  }
}

void run_job() {
  next_lane.set(0);
  unfinished.set(job.lanes);
  if (job.threads > 1) {
    pthread_mutex_lock(&bed);
    turn.take_one();
    pthread_mutex_unlock(&bed);
    if (asleep.get() > 0) pthread_cond_broadcast(&bell);
  }
  work_on_job(blocks[0]);
  if (job.threads > 1) {
    wait_until_zero(unfinished);
    turn.take_one();  // closed: a helper that comes late finds nothing
    wait_until_zero(inside);
  }
}

}  // namespace

Status share_lanes(long lanes, long floats, LaneWork work, const void* kernel) {
  IeeeArithmetic ieee;
  pthread_mutex_lock(&callers);
  const int threads = lanes < wanted_threads ? static_cast<int>(lanes) : wanted_threads;
  Status status = OK;
  for (int thread = 0; thread < threads; thread++)
    if (!reserve(thread, floats)) status = NO_MEMORY;
  if (status == OK) {
    job = Job{work, kernel, lanes, threads};
    if (threads > 1) start_helpers(threads - 1);
    run_job();
  }
  pthread_mutex_unlock(&callers);
  return status;
}

}  // namespace ddim

extern "C" void ddim_use_threads(int count) {
  const int most = ddim::MOST_THREADS;
  pthread_mutex_lock(&ddim::callers);
  ddim::wanted_threads = count < 1 ? 1 : count > most ? most : count;
  pthread_mutex_unlock(&ddim::callers);
}

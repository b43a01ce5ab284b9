package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;
import java.lang.foreign.StructLayout;
import java.lang.invoke.MethodHandle;

/**
 * Threads of the CPU backend that stay between computations. The backend remembers the pool that a context used last and pauses it when
 * the context goes on with another, so a pool must live as long as its context.
 */
final class ThreadPool implements AutoCloseable {

  // struct ggml_threadpool_params
  private static final StructLayout PARAMS = MemoryLayout.structLayout(
    MemoryLayout.sequenceLayout(512, JAVA_BYTE).withName("cpumask"), // GGML_MAX_N_THREADS
    JAVA_INT.withName("n_threads"),
    JAVA_INT.withName("prio"),
    JAVA_INT.withName("poll"),
    JAVA_BOOLEAN.withName("strict_cpu"),
    JAVA_BOOLEAN.withName("paused"),
    MemoryLayout.paddingLayout(2)
  );

  private static final int CPU = 0; // GGML_BACKEND_DEVICE_TYPE_CPU

  // A thread that has nothing to do watches for work at full load for some 130,000 rounds per unit (ggml's default is 50) before
  // it sleeps. One unit, a few milliseconds, bridges the gaps between tokens and disturbs nobody afterwards.
  private static final int POLL = 1;

  private final LlamaLibrary library;
  private final MethodHandle free;
  private final MemorySegment pool;

  /**
   * Starts threads.
   *
   * @throws IOException if they cannot be started
   */
  ThreadPool(LlamaLibrary library, int threads) throws IOException {
    this.library = library;
    MethodHandle ofType = library.function("ggml_backend_dev_by_type", FunctionDescriptor.of(ADDRESS, JAVA_INT));
    MemorySegment cpu = Natives.call(() -> (MemorySegment) ofType.invokeExact(CPU));
    MemorySegment backend = library.getAddress("ggml_backend_dev_backend_reg", cpu);
    MethodHandle create = function(backend, "ggml_threadpool_new", FunctionDescriptor.of(ADDRESS, ADDRESS));
    free = function(backend, "ggml_threadpool_free", FunctionDescriptor.ofVoid(ADDRESS));
    MethodHandle defaults = library.function("ggml_threadpool_params_default", FunctionDescriptor.of(PARAMS, JAVA_INT));
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment params = Natives.call(() ->
        (MemorySegment) defaults.invokeExact((SegmentAllocator) arena, threads)
      );
      PARAMS.varHandle(PathElement.groupElement("poll")).set(params, 0L, POLL);
      pool = Natives.call(() -> (MemorySegment) create.invokeExact(params));
    }
    if (pool.equals(MemorySegment.NULL)) {
      throw new IOException(threads + " threads could not be started");
    }
  }

  /** Has a context compute with these threads. */
  void attachTo(MemorySegment context) {
    MethodHandle attach = library.function(
      "llama_attach_threadpool",
      FunctionDescriptor.ofVoid(ADDRESS, ADDRESS, ADDRESS)
    );
    Natives.run(() -> {
      attach.invokeExact(context, pool, MemorySegment.NULL);
    });
  }

  /** The CPU's backend is a library of its own that is asked for its functions. */
  private MethodHandle function(MemorySegment backend, String name, FunctionDescriptor descriptor) throws IOException {
    MethodHandle find = library.function(
      "ggml_backend_reg_get_proc_address",
      FunctionDescriptor.of(ADDRESS, ADDRESS, ADDRESS)
    );
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment text = arena.allocateFrom(name);
      MemorySegment address = Natives.call(() -> (MemorySegment) find.invokeExact(backend, text));
      if (address.equals(MemorySegment.NULL)) {
        throw new IOException("llama.cpp's CPU backend has no " + name);
      }
      return Linker.nativeLinker().downcallHandle(address, descriptor);
    }
  }

  /** Ends the threads; to be called once, when the context is freed. */
  @Override
  public void close() {
    Natives.run(() -> {
      free.invokeExact(pool);
    });
  }
}

package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.util.ArrayList;
import java.util.List;

/**
 * A device that llama.cpp can compute on.
 *
 * @param name ggml's name of it, for example {@code CPU} or {@code CUDA0}
 * @param description its maker's name of it
 * @param kind what it is
 * @param freeBytes memory that was free when asked
 * @param totalBytes all its memory
 */
public record Device(String name, String description, Kind kind, long freeBytes, long totalBytes) {
  /** {@code enum ggml_backend_dev_type}, in its order. */
  public enum Kind {
    /** The processor, with the system's memory. */
    CPU,
    /** A graphics processor with memory of its own. */
    GPU,
    /** A graphics processor that uses the system's memory. */
    INTEGRATED_GPU,
    /** A helper of the processor, such as a BLAS library. */
    ACCELERATOR,
    /** Several devices taken as one. */
    META,
    /** A kind that the pinned release does not have. */
    OTHER
  }

  static List<Device> all(LlamaLibrary library) {
    MethodHandle count = library.function("ggml_backend_dev_count", FunctionDescriptor.of(JAVA_LONG));
    MethodHandle get = library.function("ggml_backend_dev_get", FunctionDescriptor.of(ADDRESS, JAVA_LONG));
    MethodHandle memory = library.function(
      "ggml_backend_dev_memory",
      FunctionDescriptor.ofVoid(ADDRESS, ADDRESS, ADDRESS)
    );
    List<Device> devices = new ArrayList<>();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment free = arena.allocate(JAVA_LONG);
      MemorySegment total = arena.allocate(JAVA_LONG);
      long n = Natives.call(() -> (long) count.invokeExact());
      for (long i = 0; i < n; i++) {
        long index = i;
        MemorySegment device = Natives.call(() -> (MemorySegment) get.invokeExact(index));
        Natives.run(() -> {
          memory.invokeExact(device, free, total);
        });
        int kind = library.getInt("ggml_backend_dev_type", device);
        devices.add(
          new Device(
            Natives.string(library.getAddress("ggml_backend_dev_name", device)),
            Natives.string(library.getAddress("ggml_backend_dev_description", device)),
            Kind.values()[Math.clamp(kind, 0, Kind.OTHER.ordinal())],
            free.get(JAVA_LONG, 0),
            total.get(JAVA_LONG, 0)
          )
        );
      }
    }
    return List.copyOf(devices);
  }
}

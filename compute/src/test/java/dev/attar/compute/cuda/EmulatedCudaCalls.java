package dev.attar.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;

/** For tests of the emulated CUDA: its state as in a new process with a current context, and calls without the device's code. */
@EnabledOnOs(OS.LINUX)
abstract class EmulatedCudaCalls {

  static final int INVALID_VALUE = 1;
  static final int OUT_OF_MEMORY = 2;
  static final int ILLEGAL_ADDRESS = 700;
  static final int MISALIGNED_ADDRESS = 716;
  static final int LAUNCH_FAILED = 719;

  static final String PTX = ".version 8.0\n.target sm_75\n.address_size 64\n.visible .entry %s(\n)\n{\nret;\n}\n";

  final NativeCalls cuda = NativeCalls.of(EmulatedCuda.libraries().resolve("libcuda.so.1"));
  Arena arena;

  @BeforeEach
  void begin() {
    arena = Arena.ofShared();
    cuda.run("emulated_cuda_reset");
    ok("cuInit", 0);
    MemorySegment context = arena.allocate(ValueLayout.ADDRESS);
    ok("cuDevicePrimaryCtxRetain", context, 0);
    ok("cuCtxSetCurrent", context.get(ValueLayout.ADDRESS, 0));
  }

  @AfterEach
  void end() {
    cuda.run("emulated_cuda_reset");
    arena.close();
  }

  static final MemorySegment NULL = MemorySegment.NULL;

  void ok(String name, Object... arguments) {
    assertEquals(0, cuda.call(name, arguments), () -> name + ": " + error());
  }

  String error() {
    return cuda.callString("emulated_cuda_error");
  }

  void expectError(String part) {
    assertTrue(error().contains(part), () -> "found '" + error() + "', expected '" + part + "'");
  }

  long allocate(long bytes) {
    MemorySegment address = arena.allocate(ValueLayout.JAVA_LONG);
    ok("cuMemAlloc_v2", address, bytes);
    return address.get(ValueLayout.JAVA_LONG, 0);
  }

  long upload(float[] values) {
    long address = allocate(4L * values.length);
    ok("cuMemcpyHtoD_v2", address, arena.allocateFrom(ValueLayout.JAVA_FLOAT, values), 4L * values.length);
    return address;
  }

  float[] download(long address, int count) {
    MemorySegment to = arena.allocate(4L * count, 4);
    ok("cuMemcpyDtoH_v2", to, address, 4L * count);
    return to.toArray(ValueLayout.JAVA_FLOAT);
  }

  MemorySegment stream(int flags) {
    MemorySegment stream = arena.allocate(ValueLayout.ADDRESS);
    ok("cuStreamCreate", stream, flags);
    return stream.get(ValueLayout.ADDRESS, 0);
  }

  static float[] random(int count, long seed) {
    Random random = new Random(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  int launch(String kernel, int blocks, int threads, MemorySegment stream, Object... arguments) {
    MemorySegment handle = arena.allocate(ValueLayout.ADDRESS);
    ok("cuModuleLoadData", handle, arena.allocateFrom(PTX.formatted(kernel)));
    ok("cuModuleGetFunction", handle, handle.get(ValueLayout.ADDRESS, 0), arena.allocateFrom(kernel));
    MemorySegment pointers = arena.allocate(ValueLayout.ADDRESS, arguments.length);
    for (int i = 0; i < arguments.length; i++) {
      MemorySegment value = arena.allocate(8, 8);
      switch (arguments[i]) {
        case Byte number -> value.set(ValueLayout.JAVA_BYTE, 0, number);
        case Short number -> value.set(ValueLayout.JAVA_SHORT, 0, number);
        case Integer number -> value.set(ValueLayout.JAVA_INT, 0, number);
        case Long number -> value.set(ValueLayout.JAVA_LONG, 0, number);
        case Float number -> value.set(ValueLayout.JAVA_FLOAT, 0, number);
        case Double number -> value.set(ValueLayout.JAVA_DOUBLE, 0, number);
        default -> throw new AssertionError(arguments[i]);
      }
      pointers.setAtIndex(ValueLayout.ADDRESS, i, value);
    }
    MemorySegment function = handle.get(ValueLayout.ADDRESS, 0);
    return cuda.call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, stream, pointers, NULL);
  }

  /** Launches and waits; the status of the one or the other. */
  int run(String kernel, int blocks, int threads, Object... arguments) {
    int status = launch(kernel, blocks, threads, NULL, arguments);
    return status != 0 ? status : cuda.call("cuCtxSynchronize");
  }

  /** A kernel fails, and the context with it. */
  void fails(int status, String kernel, int blocks, int threads, Object... arguments) {
    assertEquals(status, run(kernel, blocks, threads, arguments));
    assertEquals(status, cuda.call("cuCtxSynchronize"), "the context is dead");
  }
}

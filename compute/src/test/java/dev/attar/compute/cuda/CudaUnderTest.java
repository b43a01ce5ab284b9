package dev.attar.compute.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.Optional;

/**
 * The CUDA that tests run on: the GPU if there is one, the emulated one otherwise. With {@code -Dattar.require=cuda} it has to be a
 * GPU. A process has one or the other.
 */
public final class CudaUnderTest {

  /** What tests hold that use it: there is one in the process. */
  static final String LOCK = "cuda";

  private static CudaUnderTest loaded;

  private final NativeCalls emulated;

  private CudaUnderTest() {
    boolean real = hasGpu();
    if (!real && System.getProperty("attar.require", "").equals("cuda")) {
      throw new IllegalStateException("no GPU, but -Dattar.require=cuda is given: these tests must run on one");
    }
    Optional<Path> folder = real ? Optional.empty() : Optional.of(EmulatedCuda.libraries());
    folder.ifPresent(path -> System.setProperty("attar.cuda", path.toString()));
    Cuda.report()
      .problem()
      .ifPresent(problem -> {
        throw new IllegalStateException(problem);
      });
    emulated = folder.map(path -> NativeCalls.of(path.resolve("libcuda.so.1"))).orElse(null);
    try (CudaDevice device = new CudaDevice(0)) {
      System.out.println("devices under test: " + device.name());
    }
  }

  /** Asks the driver, if there is one. */
  private static boolean hasGpu() {
    // Closed afterwards: a driver that stays would be taken for the emulated one, which has the same name.
    try (Arena arena = Arena.ofConfined()) {
      NativeCalls calls = new NativeCalls(SymbolLookup.libraryLookup("libcuda.so.1", arena));
      MemorySegment count = arena.allocate(ValueLayout.JAVA_INT);
      return (
        calls.call("cuInit", 0) == 0 &&
        calls.call("cuDeviceGetCount", count) == 0 &&
        count.get(ValueLayout.JAVA_INT, 0) > 0
      );
    } catch (IllegalArgumentException _) {
      return false;
    }
  }

  /** Loaded by the first call of the process. */
  public static synchronized CudaUnderTest load() {
    if (loaded == null) {
      loaded = new CudaUnderTest();
    }
    return loaded;
  }

  /** The functions by which tests see and steer the emulated CUDA; empty on a GPU. */
  Optional<NativeCalls> emulated() {
    return Optional.ofNullable(emulated);
  }

  CudaDevice open() {
    return new CudaDevice(0);
  }
}

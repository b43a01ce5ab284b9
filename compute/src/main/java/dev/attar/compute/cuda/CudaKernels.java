package dev.attar.compute.cuda;

import static jcuda.driver.JCudaDriver.cuLaunchKernel;
import static jcuda.driver.JCudaDriver.cuModuleGetFunction;
import static jcuda.driver.JCudaDriver.cuModuleLoadDataEx;
import static jcuda.driver.JCudaDriver.cuModuleUnload;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.Map;
import jcuda.NativePointerObject;
import jcuda.Pointer;
import jcuda.driver.CUfunction;
import jcuda.driver.CUmodule;

/** Our kernels on a GPU: {@code X.ptx} is loaded when a kernel of X is first launched. Within operations of the context. */
final class CudaKernels implements AutoCloseable {

  /** Threads of a block where nothing speaks for another number. */
  static final int THREADS = 128;

  private final CudaContext context;
  private final Map<String, CUmodule> modules = new HashMap<>();
  private final Map<String, CUfunction> functions = new HashMap<>();

  CudaKernels(CudaContext context) {
    this.context = context;
  }

  /** Blocks and threads of a launch. */
  record Shape(int blocksX, int blocksY, int threadsX, int threadsY) {
    /** The most that {@code blocksY} can be. */
    static final int MAX_BLOCKS_Y = 65535;

    /** At least one thread for each of so many items, in blocks of {@link #THREADS}. */
    static Shape of(long items) {
      return of(items, THREADS);
    }

    /** The same in blocks of another size. */
    static Shape of(long items, int threads) {
      return new Shape(Math.toIntExact(Math.ceilDiv(items, threads)), 1, threads, 1);
    }

    /** A row of blocks as {@link #of} for each of {@code count} things; blockIdx.y is its number, below {@link #MAX_BLOCKS_Y}. */
    static Shape of(long items, int threads, int count) {
      return new Shape(Math.toIntExact(Math.ceilDiv(items, threads)), count, threads, 1);
    }
  }

  /**
   * Puts a kernel on the context's stream.
   *
   * @param file the name of its {@code .cu} file, without the ending
   * @param arguments as the kernel's parameters: a Long is an address or a long long, then Integer, Float, Double, {@link CudaMatrix}
   */
  void launch(String file, String kernel, Shape shape, Object... arguments) {
    // The driver reads the values before the call returns.
    ByteBuffer values = ByteBuffer.allocateDirect(8 * arguments.length).order(ByteOrder.nativeOrder());
    NativePointerObject[] pointers = new NativePointerObject[arguments.length];
    for (int i = 0; i < arguments.length; i++) {
      pointers[i] = Pointer.to(values).withByteOffset(8L * i);
      switch (arguments[i]) {
        case CudaMatrix matrix -> values.putLong(8 * i, matrix.address());
        case Long number -> values.putLong(8 * i, number);
        case Integer number -> values.putInt(8 * i, number);
        case Float number -> values.putFloat(8 * i, number);
        case Double number -> values.putDouble(8 * i, number);
        default -> throw new IllegalArgumentException(kernel + ": argument " + i + " is " + arguments[i]);
      }
    }
    int status = cuLaunchKernel(
      function(file, kernel),
      shape.blocksX,
      shape.blocksY,
      1,
      shape.threadsX,
      shape.threadsY,
      1,
      0,
      context.stream(),
      Pointer.to(pointers),
      null
    );
    context.launched(kernel);
    CudaStatus.driver(
      status,
      "%s of %d x %d blocks of %d x %d threads",
      kernel,
      shape.blocksX,
      shape.blocksY,
      shape.threadsX,
      shape.threadsY
    );
  }

  private CUfunction function(String file, String kernel) {
    return functions.computeIfAbsent(kernel, _ -> {
      CUfunction function = new CUfunction();
      CUmodule module = modules.computeIfAbsent(file, this::load);
      CudaStatus.driver(cuModuleGetFunction(function, module, kernel), "cuModuleGetFunction(%s)", kernel);
      return function;
    });
  }

  private CUmodule load(String file) {
    byte[] text = ptx(file);
    ByteBuffer image = ByteBuffer.allocateDirect(text.length + 1).put(text).put((byte) 0).rewind();
    CUmodule module = new CUmodule();
    int status = cuModuleLoadDataEx(module, Pointer.to(image), 0, new int[0], Pointer.to(new NativePointerObject[0]));
    CudaStatus.driver(status, "cuModuleLoadDataEx(%s.ptx) for %s", file, context.name());
    return module;
  }

  static byte[] ptx(String file) {
    try (InputStream in = CudaKernels.class.getResourceAsStream(file + ".ptx")) {
      if (in == null) {
        throw new IllegalStateException("no resource " + file + ".ptx");
      }
      return in.readAllBytes();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @Override
  public void close() {
    context.run(() -> {
      for (CUmodule module : modules.values()) {
        CudaStatus.driver(cuModuleUnload(module), "cuModuleUnload");
      }
    });
  }
}

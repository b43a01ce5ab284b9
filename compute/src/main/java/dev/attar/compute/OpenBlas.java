package dev.attar.compute;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.ReentrantLock;

/**
 * The functions of OpenBLAS that the CPU computes with. Nothing is checked here: wrong shapes or too short a segment end the
 * process. Matrices are row-major without gaps.
 *
 * <p>How many threads compute is a setting of the library, that is, of the process; {@link #withThreads} holds it for a while.
 */
final class OpenBlas {

  /** Largest n that {@link #symmetricEigen} takes: LAPACK counts its scratch memory with 32 bits. */
  static final int MAX_EIGEN_ORDER = 32766;

  /** Its names of processors with AVX-512. */
  private static final Set<String> AVX_512 = Set.of("SkylakeX", "Cooperlake", "SapphireRapids");

  private static OpenBlas loaded;

  private final OpenBlasLibrary library;
  private final String config;
  private final String core;
  private final MethodHandle setThreads;
  private final Level3 floats;
  private final Level3 doubles;
  private final MethodHandle dsyevd;
  private final MethodHandle dgesdd;

  private final ReentrantLock lock = new ReentrantLock();
  private int threads = 1;

  private OpenBlas(OpenBlasLibrary library) throws IOException {
    this.library = library;
    config = text("openblas_get_config");
    core = text("openblas_get_corename");
    if (!config.startsWith("OpenBLAS ") || config.contains("USE64BITINT")) {
      throw new IOException(library.place() + ": found \"" + config + "\", expected OpenBLAS with 32-bit integers");
    }
    setThreads = procedure("openblas_set_num_threads", JAVA_INT);
    floats = new Level3(this, 's', JAVA_FLOAT);
    doubles = new Level3(this, 'd', JAVA_DOUBLE);
    dsyevd = fortran("dsyevd_", 11, 2);
    dgesdd = fortran("dgesdd_", 14, 1);
    setThreads(1);
  }

  /**
   * The library, loaded by the first call of the process.
   *
   * @throws IOException if there is none or it is of no use; the message is one line
   */
  static synchronized OpenBlas load() throws IOException {
    if (loaded == null) {
      loaded = load(OpenBlasLibrary.Places.ofThisProcess());
    }
    return loaded;
  }

  static OpenBlas load(OpenBlasLibrary.Places places) throws IOException {
    return new OpenBlas(OpenBlasLibrary.load(places));
  }

  /** Name, version and the kind of processor that its code is chosen for: {@code OpenBLAS 0.3.31 SkylakeX}. */
  String description() {
    String[] words = config.split(" ", 3);
    return words[0] + " " + words[1] + " " + core;
  }

  /**
   * Whether it has code for single-precision products of up to a million multiplications that copies nothing: it has for AVX-512
   * (OpenBLAS's kernels named {@code sgemm_small_kernel}).
   */
  boolean multipliesSmallInPlace() {
    return AVX_512.contains(core);
  }

  /** Most threads that may be in the library at a time. */
  int maxThreads() {
    // "... MAX_THREADS=64"; builds without threads say nothing of them.
    String name = "MAX_THREADS=";
    int at = config.indexOf(name);
    return at < 0 ? 1 : Integer.parseInt(config.substring(at + name.length()).trim().split(" ", 2)[0]);
  }

  /** Runs something while the library computes with so many threads; waits until no other thread is at this. */
  void withThreads(int count, Runnable action) {
    lock.lock();
    int before = threads;
    try {
      setThreads(count);
      action.run();
    } finally {
      setThreads(before);
      lock.unlock();
    }
  }

  private void setThreads(int count) {
    try {
      setThreads.invokeExact(count);
    } catch (Throwable e) {
      throw unexpected(e);
    }
    threads = count;
  }

  /** The functions on matrices of float32. */
  Level3 floats() {
    return floats;
  }

  /** The functions on matrices of float64. */
  Level3 doubles() {
    return doubles;
  }

  /**
   * Eigenvalues, ascending, and eigenvectors of a symmetric matrix.
   *
   * @param a float64 (n, n), finite, of which the upper triangle is read; gets the vectors in its rows
   * @param values float64, n
   * @return whether the iteration converged
   */
  boolean symmetricEigen(int n, MemorySegment a, MemorySegment values) {
    try (Arena arena = Arena.ofConfined()) {
      int work = 1 + 6 * n + 2 * n * n;
      int integers = 3 + 5 * n;
      MemorySegment order = number(arena, n);
      MemorySegment info = arena.allocate(JAVA_INT);
      dsyevd.invokeExact(
        letter(arena, 'V'),
        letter(arena, 'L'),
        order,
        a,
        order,
        values,
        NativeMemory.zeros(arena, work, Double.BYTES, "the scratch of eigenvectors"),
        number(arena, work),
        NativeMemory.zeros(arena, integers, Integer.BYTES, "the scratch of eigenvectors"),
        number(arena, integers),
        info,
        1L,
        1L
      );
      return atLeastZero("dsyevd", info) == 0;
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  /** Whether {@link #svd} takes an (m, n) matrix: LAPACK counts its scratch memory with 32 bits. */
  static boolean canSvd(int m, int n) {
    return leastSvdWork(m, n) + 128L * (m + (long) n) <= Integer.MAX_VALUE;
  }

  private static long leastSvdWork(int m, int n) {
    long k = Math.min(m, n);
    return 4 * k * k + 7 * k;
  }

  /**
   * The singular value decomposition {@code a = u diag(values) vt}, all float64, with k = min(m, n).
   *
   * @param a (m, n), finite; overwritten
   * @param u gets the left singular vectors (m, k)
   * @param values gets the k singular values, descending
   * @param vt gets the right singular vectors (k, n)
   * @return whether the iteration converged
   */
  boolean svd(int m, int n, MemorySegment a, MemorySegment u, MemorySegment values, MemorySegment vt) {
    // LAPACK's matrices are column-major: to it, a is (n, m), its left vectors are vt's, its right ones u's.
    try (Arena arena = Arena.ofConfined()) {
      int k = Math.min(m, n);
      MemorySegment letter = letter(arena, 'S');
      MemorySegment columns = number(arena, n);
      MemorySegment rows = number(arena, m);
      MemorySegment rank = number(arena, k);
      MemorySegment integers = NativeMemory.zeros(arena, 8L * k, Integer.BYTES, "the scratch of singular values");
      MemorySegment info = arena.allocate(JAVA_INT);
      MemorySegment best = arena.allocate(JAVA_DOUBLE);
      MemorySegment query = number(arena, -1);
      dgesdd.invokeExact(
        letter,
        columns,
        rows,
        a,
        columns,
        values,
        vt,
        columns,
        u,
        rank,
        best,
        query,
        integers,
        info,
        1L
      );
      atLeastZero("dgesdd", info);
      int work = (int) Math.max(leastSvdWork(m, n), best.get(JAVA_DOUBLE, 0));
      MemorySegment scratch = NativeMemory.zeros(arena, work, Double.BYTES, "the scratch of singular values");
      MemorySegment size = number(arena, work);
      dgesdd.invokeExact(
        letter,
        columns,
        rows,
        a,
        columns,
        values,
        vt,
        columns,
        u,
        rank,
        scratch,
        size,
        integers,
        info,
        1L
      );
      return atLeastZero("dgesdd", info) == 0;
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  static MemorySegment letter(Arena arena, char letter) {
    return arena.allocateFrom(JAVA_BYTE, (byte) letter);
  }

  static MemorySegment number(Arena arena, int number) {
    return arena.allocateFrom(JAVA_INT, number);
  }

  /** What a function of LAPACK says of its outcome; negative for an argument that it refuses, which is our own doing. */
  static int atLeastZero(String function, MemorySegment info) {
    int value = info.get(JAVA_INT, 0);
    if (value < 0) {
      throw new AssertionError(function + " refuses argument " + -value);
    }
    return value;
  }

  /** A Fortran procedure: all arguments by their addresses, then as hidden ones the lengths of those that are text. */
  MethodHandle fortran(String name, int arguments, int texts) throws IOException {
    List<MemoryLayout> layouts = new ArrayList<>(Collections.nCopies(arguments, ADDRESS));
    layouts.addAll(Collections.nCopies(texts, JAVA_LONG));
    return procedure(name, layouts.toArray(MemoryLayout[]::new));
  }

  /** Binds a function without a result. */
  MethodHandle procedure(String name, MemoryLayout... arguments) throws IOException {
    return Linker.nativeLinker().downcallHandle(find(name), FunctionDescriptor.ofVoid(arguments));
  }

  private MemorySegment find(String name) throws IOException {
    return library
      .symbols()
      .find(name)
      .orElseThrow(() ->
        new IOException(library.place() + ": no function " + name + ", expected OpenBLAS with LAPACK")
      );
  }

  private String text(String function) throws IOException {
    MethodHandle handle = Linker.nativeLinker().downcallHandle(find(function), FunctionDescriptor.of(ADDRESS));
    try {
      MemorySegment bytes = ((MemorySegment) handle.invokeExact()).reinterpret(1024);
      return bytes.getString(0, StandardCharsets.US_ASCII);
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  /** Native functions throw nothing themselves: what a call throws is our own doing and passed on as it is. */
  static RuntimeException unexpected(Throwable e) {
    return switch (e) {
      case RuntimeException runtime -> runtime;
      case Error error -> throw error;
      default -> throw new AssertionError(e);
    };
  }
}

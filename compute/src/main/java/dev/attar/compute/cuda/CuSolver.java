package dev.attar.compute.cuda;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.Map;

/**
 * cuSOLVER's factorizations of dense matrices, by the foreign-function API: no jar of JCuda has them for its version 12.6. Within
 * operations of the context.
 *
 * <p>Matrices are column-major: to the library, each of our row-major ones is its transpose, and our lower triangle an upper one.
 */
final class CuSolver implements AutoCloseable {

  static final int ALLOC_FAILED = 2;

  /** The library counts numbers of a matrix with 32 bits. */
  private static final int MAX_CHOLESKY_ORDER = 46_340;

  private static final Map<Integer, String> STATUSES = Map.ofEntries(
    Map.entry(0, "SUCCESS"),
    Map.entry(1, "NOT_INITIALIZED"),
    Map.entry(ALLOC_FAILED, "ALLOC_FAILED"),
    Map.entry(3, "INVALID_VALUE"),
    Map.entry(4, "ARCH_MISMATCH"),
    Map.entry(5, "MAPPING_ERROR"),
    Map.entry(6, "EXECUTION_FAILED"),
    Map.entry(7, "INTERNAL_ERROR"),
    Map.entry(8, "MATRIX_TYPE_NOT_SUPPORTED"),
    Map.entry(9, "NOT_SUPPORTED"),
    Map.entry(10, "ZERO_PIVOT"),
    Map.entry(11, "INVALID_LICENSE"),
    Map.entry(31, "INVALID_WORKSPACE")
  );

  /** Values of cublasFillMode_t and cusolverEigMode_t, and a letter of LAPACK. */
  private static final int LOWER = 0;

  private static final int UPPER = 1;
  private static final int VECTORS = 1;
  private static final byte SOME = 'S';

  private final CudaContext context;
  private final Function destroy;
  private final Function spotrfSize;
  private final Function spotrf;
  private final Function dpotrfSize;
  private final Function dpotrf;
  private final Function dsyevdSize;
  private final Function dsyevd;
  private final Function dgesvdSize;
  private final Function dgesvd;
  private final long handle;

  /** A function of the library, which returns a status. */
  private record Function(String name, MethodHandle address) {
    /**
     * Binds a function.
     *
     * @param parameters {@code i} for each int, {@code c} for each char, {@code *} for each address
     */
    static Function of(SymbolLookup library, String name, String parameters) {
      MemorySegment symbol = library
        .find(name)
        .orElseThrow(() -> new CudaException("cuda: no function " + name + " in cuSOLVER, expected that of CUDA 12"));
      MemoryLayout[] layouts = parameters
        .chars()
        .mapToObj(letter -> letter == 'i' ? JAVA_INT : letter == 'c' ? JAVA_BYTE : JAVA_LONG)
        .toArray(MemoryLayout[]::new);
      FunctionDescriptor type = FunctionDescriptor.of(JAVA_INT, layouts);
      return new Function(name, Linker.nativeLinker().downcallHandle(symbol, type));
    }

    /**
     * Calls it.
     *
     * @param sizes for the message
     */
    void call(String sizes, Object... arguments) {
      int status;
      try {
        status = (int) address.invokeWithArguments(arguments);
      } catch (RuntimeException | Error e) {
        throw e;
      } catch (Throwable e) {
        throw new AssertionError(e);
      }
      CudaStatus.cusolver(status, "%s(%s)", name, sizes);
    }
  }

  CuSolver(SymbolLookup library, CudaContext context) {
    this.context = context;
    destroy = Function.of(library, "cusolverDnDestroy", "*");
    spotrfSize = Function.of(library, "cusolverDnSpotrf_bufferSize", "*ii*i*");
    spotrf = Function.of(library, "cusolverDnSpotrf", "*ii*i*i*");
    dpotrfSize = Function.of(library, "cusolverDnDpotrf_bufferSize", "*ii*i*");
    dpotrf = Function.of(library, "cusolverDnDpotrf", "*ii*i*i*");
    dsyevdSize = Function.of(library, "cusolverDnDsyevd_bufferSize", "*iii*i**");
    dsyevd = Function.of(library, "cusolverDnDsyevd", "*iii*i**i*");
    dgesvdSize = Function.of(library, "cusolverDnDgesvd_bufferSize", "*ii*");
    dgesvd = Function.of(library, "cusolverDnDgesvd", "*ccii*i**i*i*i**");
    Function create = Function.of(library, "cusolverDnCreate", "*");
    Function setStream = Function.of(library, "cusolverDnSetStream", "**");
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment result = arena.allocate(JAVA_LONG);
      create.call("", result.address());
      handle = result.get(JAVA_LONG, 0);
    }
    setStream.call("", handle, context.streamAddress());
  }

  static String statusName(int status) {
    return "CUSOLVER_STATUS_" + STATUSES.getOrDefault(status, "UNKNOWN");
  }

  /** How much work memory a function wants, in numbers. */
  @FunctionalInterface
  private interface SizeQuery {
    /** @param size the address of an int that gets it */
    void ask(long size);
  }

  /** A call with work memory. */
  @FunctionalInterface
  private interface Call {
    /**
     * @param work the address of the memory
     * @param size its size in numbers
     * @param info the address of the int on the device that gets the outcome
     */
    void run(long work, int size, long info);
  }

  /** Runs a function with the work memory that it wants, and returns its outcome: 0, or more if it did not succeed. */
  private int solve(String name, int bytesEach, SizeQuery query, Call call) {
    try (CudaMemory memory = new CudaMemory(context); Arena arena = Arena.ofConfined()) {
      MemorySegment result = arena.allocate(JAVA_INT);
      query.ask(result.address());
      int size = result.get(JAVA_INT, 0);
      if (size < 0) {
        throw new CudaException("cuda: " + name + " wants work memory of " + size + " numbers, expected at least 0");
      }
      long work = memory.allocate(Math.max(1, size), bytesEach, "the work memory of " + name);
      long info = memory.allocate(1, Integer.BYTES, "the outcome of " + name);
      call.run(work, size, info);
      context.read(info, result);
      int outcome = result.get(JAVA_INT, 0);
      if (outcome < 0) {
        throw new AssertionError(name + " refuses argument " + -outcome);
      }
      return outcome;
    }
  }

  /**
   * Replaces the lower triangle of a symmetric matrix (n, n) with its Cholesky factor L, {@code L L'}; what the other triangle gets is
   * unspecified.
   *
   * @param a float64, in rows that are {@code stride} numbers apart
   * @return 0, or k if the leading minor of order k is not positive
   */
  int cholesky(long a, int n, int stride) {
    return cholesky(dpotrfSize, dpotrf, Double.BYTES, a, n, stride);
  }

  /** The same of float32. */
  int choleskySingle(long a, int n, int stride) {
    return cholesky(spotrfSize, spotrf, Float.BYTES, a, n, stride);
  }

  private int cholesky(Function size, Function function, int bytesEach, long a, int n, int stride) {
    if (n > MAX_CHOLESKY_ORDER) {
      throw new IllegalArgumentException("a Cholesky factor of order " + n + ", at most " + MAX_CHOLESKY_ORDER);
    }
    // U'U, of which U is L'.
    String sizes = Integer.toString(n);
    return solve(
      "a Cholesky factor of order " + n,
      bytesEach,
      result -> size.call(sizes, handle, UPPER, n, a, stride, result),
      (work, count, info) -> function.call(sizes, handle, UPPER, n, a, stride, work, count, info)
    );
  }

  /**
   * Eigenvalues, ascending, and eigenvectors of a symmetric matrix.
   *
   * @param a float64 (n, n), finite, of which the upper triangle is read; gets the vectors in its rows
   * @param values float64, n
   * @return whether the iteration converged
   */
  boolean symmetricEigen(int n, long a, long values) {
    String sizes = Integer.toString(n);
    return (
      solve(
        "eigenvectors of order " + n,
        Double.BYTES,
        result -> dsyevdSize.call(sizes, handle, VECTORS, LOWER, n, a, n, values, result),
        (work, size, info) -> dsyevd.call(sizes, handle, VECTORS, LOWER, n, a, n, values, work, size, info)
      ) ==
      0
    );
  }

  /**
   * The singular value decomposition {@code a = u diag(values) vt}, all float64, of a matrix that is not taller than wide.
   *
   * @param a (m, n), m at most n, finite; overwritten
   * @param u gets the left singular vectors (m, m)
   * @param values gets the m singular values, descending
   * @param vt gets the right singular vectors (m, n)
   * @return whether the iteration converged
   */
  boolean svd(int m, int n, long a, long u, long values, long vt) {
    // The library's matrix is a', at least as tall as wide as it has to be; its left vectors are our right ones.
    String sizes = n + ", " + m;
    return (
      solve(
        "singular vectors of " + m + " x " + n,
        Double.BYTES,
        result -> dgesvdSize.call(sizes, handle, n, m, result),
        (work, size, info) ->
          dgesvd.call(sizes, handle, SOME, SOME, n, m, a, n, values, vt, n, u, m, work, size, 0L, info)
      ) ==
      0
    );
  }

  @Override
  public void close() {
    destroy.call("", handle);
  }
}

package dev.attar.compute.cuda;

import dev.attar.compute.CheckedDevice;
import dev.attar.compute.DeviceCoder;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.Scope;
import dev.attar.compute.Sparsity;
import dev.attar.compute.TransformerOperations;
import dev.attar.compute.cuda.CudaAlgebra.Part;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;

/** Computes with an NVIDIA GPU. */
final class CudaDevice extends CheckedDevice<CudaMatrix> {

  private final CudaContext context;
  private final CudaTransfers transfers;

  /** What operations bring and fetch themselves does not wait for a large matrix on its way. */
  private final CudaTransfers ownTransfers;

  private final CudaKernels kernels;
  private final CudaAlgebra algebra;
  private final CudaQuantization quantization;
  private final CudaPruning pruning;
  private final CudaTransformer transformer;

  /** @param ordinal the GPU's number, from 0; the libraries have been loaded and the driver started */
  CudaDevice(int ordinal) {
    super(CudaMatrix.class);
    context = new CudaContext(ordinal);
    try {
      transfers = new CudaTransfers(context);
      ownTransfers = new CudaTransfers(context);
      kernels = new CudaKernels(context);
      algebra = context.call(() -> new CudaAlgebra(context, kernels, CudaLibraries.ofThisProcess().solver()));
      quantization = new CudaQuantization(context, ownTransfers, kernels, algebra);
      pruning = new CudaPruning(context, ownTransfers, kernels, algebra);
      transformer = new CudaTransformer(this, context, ownTransfers, kernels);
    } catch (RuntimeException | Error e) {
      // Whatever was made goes with it.
      context.close();
      throw e;
    }
  }

  @Override
  public String name() {
    return "cuda (" + context.name() + ")";
  }

  @Override
  public TransformerOperations transformer() {
    return transformer;
  }

  @Override
  public long freeMemory() {
    return context.freeBytes();
  }

  @Override
  public boolean hasOwnMemory() {
    return true;
  }

  @Override
  protected Scope newScope() {
    return new CudaScope(this, new CudaMemory(context));
  }

  @Override
  protected void uploadChecked(MemorySegment from, CudaMatrix to) {
    transfers.upload(from, to.address(), to.bytes());
  }

  @Override
  protected void downloadChecked(CudaMatrix from, MemorySegment to) {
    transfers.download(from.address(), to, from.bytes());
  }

  @Override
  protected void transposeChecked(CudaMatrix from, CudaMatrix to) {
    context.run(() -> algebra.transpose(from.address(), to.address(), from.rows(), from.columns()));
  }

  @Override
  protected void addChecked(float alpha, CudaMatrix a, CudaMatrix to) {
    context.run(() -> algebra.add(alpha, a, to));
  }

  @Override
  protected void gemmChecked(
    float alpha,
    CudaMatrix a,
    boolean transposeA,
    CudaMatrix b,
    boolean transposeB,
    float beta,
    CudaMatrix c
  ) {
    context.run(() -> algebra.gemm(alpha, a, transposeA, b, transposeB, beta, c));
  }

  @Override
  protected void syrkChecked(float alpha, CudaMatrix x, float beta, CudaMatrix c) {
    context.run(() -> algebra.syrk(alpha, x, beta, c));
  }

  @Override
  protected int choleskyChecked(CudaMatrix a, CudaMatrix lower) {
    return context.call(() -> algebra.cholesky(a, lower));
  }

  @Override
  protected void triangularInverseChecked(CudaMatrix lower) {
    context.run(() -> algebra.invertLower(lower));
  }

  @Override
  protected void triangularSolveChecked(CudaMatrix lower, boolean transpose, CudaMatrix b) {
    context.run(() -> algebra.solveLower(lower, transpose, b));
  }

  @Override
  protected int maxEigenOrder() {
    return CudaAlgebra.MAX_EIGEN_ORDER;
  }

  @Override
  protected boolean symmetricEigenChecked(CudaMatrix a, float[] values, CudaMatrix vectors) {
    return context.call(() -> algebra.symmetricEigen(a, values, vectors));
  }

  @Override
  protected boolean canSvd(int rows, int columns) {
    return CudaAlgebra.canSvd(rows, columns);
  }

  @Override
  protected boolean svdChecked(CudaMatrix a, CudaMatrix u, float[] values, CudaMatrix vt) {
    return context.call(() -> algebra.svd(a, u, values, vt));
  }

  @Override
  protected void mirrorChecked(CudaMatrix a) {
    context.run(() -> algebra.mirror(a));
  }

  @Override
  protected int feedbackFactorChecked(CudaMatrix gram, float ridge, int[] order, CudaMatrix factor) {
    return context.call(() -> quantization.feedbackFactor(gram, ridge, order, factor));
  }

  @Override
  protected void columnWalkChecked(
    CudaMatrix weights,
    CudaMatrix factor,
    float ridge,
    int[] order,
    QuantizationGrid grid,
    int reach,
    CudaMatrix levels,
    double[] errors
  ) {
    context.run(() -> quantization.columnWalk(weights, factor, ridge, order, grid, reach, levels, errors));
  }

  @Override
  protected void refineChecked(
    CudaMatrix weights,
    CudaMatrix gram,
    float ridge,
    QuantizationGrid grid,
    CudaMatrix levels,
    int passes,
    boolean scales,
    double[] errors
  ) {
    context.run(() -> quantization.refine(weights, gram, ridge, grid, levels, passes, scales, errors));
  }

  @Override
  protected void gramErrorsChecked(
    CudaMatrix weights,
    CudaMatrix gram,
    QuantizationGrid grid,
    CudaMatrix levels,
    double[] errors
  ) {
    context.run(() -> quantization.gramErrors(weights, gram, grid, levels, errors));
  }

  @Override
  protected void pruneChecked(CudaMatrix weights, float[] norms, Sparsity sparsity) {
    context.run(() -> pruning.prune(weights, norms, sparsity));
  }

  @Override
  protected void sparseWalkChecked(
    CudaMatrix weights,
    CudaMatrix factor,
    float ridge,
    int[] order,
    Sparsity sparsity,
    CudaMatrix pruned,
    double[] errors
  ) {
    context.run(() -> pruning.sparseWalk(weights, factor, ridge, order, sparsity, pruned, errors));
  }

  @Override
  protected OptionalInt zeroOnDiagonal(CudaMatrix square) {
    return context.call(() -> algebra.zeroOnDiagonal(square));
  }

  @Override
  protected OptionalLong firstNotFinite(CudaMatrix matrix, boolean upper) {
    return context.call(() -> algebra.firstNotFinite(matrix, upper ? Part.UPPER : Part.ALL));
  }

  @Override
  protected float get(CudaMatrix matrix, long index) {
    return context.call(() -> {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment value = arena.allocate(ValueLayout.JAVA_FLOAT);
        context.read(matrix.address() + index * Float.BYTES, value);
        return value.get(ValueLayout.JAVA_FLOAT, 0);
      }
    });
  }

  @Override
  protected Optional<DeviceCoder<CudaMatrix>> newCoder(String type) {
    return CudaBlockType.of(type).map(known -> new CudaBlockCoder(context, ownTransfers, kernels, known));
  }

  @Override
  protected void closeChecked() {
    // As one operation: it waits for what runs, and no other comes between.
    context.run(() -> {
      transfers.close();
      ownTransfers.close();
      algebra.close();
      kernels.close();
      context.close();
    });
  }
}

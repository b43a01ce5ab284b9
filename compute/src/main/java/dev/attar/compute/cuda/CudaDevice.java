package dev.attar.compute.cuda;

import static jcuda.jcublas.JCublas2.cublasCreate;
import static jcuda.jcublas.JCublas2.cublasDestroy;
import static jcuda.jcublas.JCublas2.cublasSetStream;
import static jcuda.jcublas.JCublas2.cublasSgemm;

import dev.attar.compute.CheckedDevice;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.Scope;
import dev.attar.compute.cuda.CudaKernels.Shape;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.OptionalInt;
import java.util.OptionalLong;
import jcuda.Pointer;
import jcuda.jcublas.cublasHandle;
import jcuda.jcublas.cublasOperation;
import jcuda.runtime.cudaStream_t;

/** Computes with an NVIDIA GPU. The libraries' matrices are column-major: to them, each of ours is its transpose. */
final class CudaDevice extends CheckedDevice<CudaMatrix> {

  private final CudaContext context;
  private final CudaTransfers transfers;
  private final CudaKernels kernels;
  private final cublasHandle blas = new cublasHandle();

  /** @param ordinal the GPU's number, from 0; the libraries have been loaded and the driver started */
  CudaDevice(int ordinal) {
    super(CudaMatrix.class);
    context = new CudaContext(ordinal);
    transfers = new CudaTransfers(context);
    kernels = new CudaKernels(context);
    context.run(() -> {
      CudaStatus.cublas(cublasCreate(blas), "cublasCreate");
      CudaStatus.cublas(cublasSetStream(blas, new cudaStream_t(context.stream())), "cublasSetStream");
    });
  }

  @Override
  public String name() {
    return "cuda (" + context.name() + ")";
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
    context.run(() -> kernels.launch("matrix", "transpose", tiles(from), from, to, from.rows(), from.columns()));
  }

  /** Blocks of threads for tiles of 32 x 32 of a matrix. */
  private static Shape tiles(CudaMatrix matrix) {
    return new Shape(Math.ceilDiv(matrix.columns(), 32), Math.ceilDiv(matrix.rows(), 32), 32, 8);
  }

  /** A number for a call of cuBLAS, which reads it before it returns. */
  private static Pointer scalar(float value) {
    return Pointer.to(ByteBuffer.allocateDirect(4).order(ByteOrder.nativeOrder()).putFloat(0, value));
  }

  @Override
  protected void addChecked(float alpha, CudaMatrix a, CudaMatrix to) {
    context.run(() -> kernels.launch("matrix", "add", Shape.of(a.count()), alpha, a, to, a.count()));
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
    int k = transposeA ? a.rows() : a.columns();
    context.run(() -> {
      // c' = op(b)' op(a)'
      int status = cublasSgemm(
        blas,
        operation(transposeB),
        operation(transposeA),
        c.columns(),
        c.rows(),
        k,
        scalar(alpha),
        b.pointer(),
        b.columns(),
        a.pointer(),
        a.columns(),
        scalar(beta),
        c.pointer(),
        c.columns()
      );
      CudaStatus.cublas(status, "cublasSgemm(%d, %d, %d)", c.columns(), c.rows(), k);
    });
  }

  private static int operation(boolean transpose) {
    return transpose ? cublasOperation.CUBLAS_OP_T : cublasOperation.CUBLAS_OP_N;
  }

  @Override
  protected void syrkChecked(float alpha, CudaMatrix x, float beta, CudaMatrix c) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected int choleskyChecked(CudaMatrix a, CudaMatrix lower) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected void triangularInverseChecked(CudaMatrix lower) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected void triangularSolveChecked(CudaMatrix lower, boolean transpose, CudaMatrix b) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected int maxEigenOrder() {
    throw new UnsupportedOperationException();
  }

  @Override
  protected boolean symmetricEigenChecked(CudaMatrix a, float[] values, CudaMatrix vectors) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected boolean canSvd(int rows, int columns) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected boolean svdChecked(CudaMatrix a, CudaMatrix u, float[] values, CudaMatrix vt) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected void mirrorChecked(CudaMatrix a) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected int feedbackFactorChecked(CudaMatrix gram, float ridge, int[] order, CudaMatrix factor) {
    throw new UnsupportedOperationException();
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
    throw new UnsupportedOperationException();
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
    throw new UnsupportedOperationException();
  }

  @Override
  protected void gramErrorsChecked(
    CudaMatrix weights,
    CudaMatrix gram,
    QuantizationGrid grid,
    CudaMatrix levels,
    double[] errors
  ) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected OptionalInt zeroOnDiagonal(CudaMatrix square) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected OptionalLong firstNotFinite(CudaMatrix matrix, boolean upper) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected float get(CudaMatrix matrix, long index) {
    throw new UnsupportedOperationException();
  }

  @Override
  protected void closeChecked() {
    context.run(() -> CudaStatus.cublas(cublasDestroy(blas), "cublasDestroy"));
    transfers.close();
    kernels.close();
    context.close();
  }
}

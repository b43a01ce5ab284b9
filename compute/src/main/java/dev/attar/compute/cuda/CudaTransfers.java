package dev.attar.compute.cuda;

import static jcuda.driver.JCudaDriver.cuEventCreate;
import static jcuda.driver.JCudaDriver.cuEventDestroy;
import static jcuda.driver.JCudaDriver.cuEventRecord;
import static jcuda.driver.JCudaDriver.cuEventSynchronize;
import static jcuda.driver.JCudaDriver.cuMemAllocHost;
import static jcuda.driver.JCudaDriver.cuMemFreeHost;
import static jcuda.driver.JCudaDriver.cuMemcpyDtoHAsync;
import static jcuda.driver.JCudaDriver.cuMemcpyHtoDAsync;
import static jcuda.driver.JCudaDriver.cuStreamCreate;
import static jcuda.driver.JCudaDriver.cuStreamDestroy;
import static jcuda.driver.JCudaDriver.cuStreamSynchronize;

import java.lang.foreign.MemorySegment;
import java.util.concurrent.locks.ReentrantLock;
import jcuda.Pointer;
import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.CUstream;
import jcuda.driver.CUstream_flags;

/**
 * Copies between a GPU's memory and the host's, on a stream of their own, so that one thread can bring the next matrix while another
 * one's operation runs. The GPU copies from and to two pinned buffers: while one is on its way, the processor fills or empties the
 * other. One copy at a time; it is complete when the call returns.
 */
final class CudaTransfers implements AutoCloseable {

  /** Bytes of a staging buffer: so many that a copy's start does not count. */
  private static final int PIECE = 4 << 20;

  private final CudaContext context;
  private final ReentrantLock lock = new ReentrantLock();
  private final CUstream stream = new CUstream();
  private final Staging[] stagings = { new Staging(), new Staging() };
  private boolean closed;

  /** A pinned buffer and the event that its last copy is done. */
  private static final class Staging {

    final Pointer pointer = new Pointer();
    final CUevent done = new CUevent();
    MemorySegment memory;
  }

  CudaTransfers(CudaContext context) {
    this.context = context;
    context.run(() -> {
      CudaStatus.driver(cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING), "cuStreamCreate");
      for (Staging staging : stagings) {
        CudaStatus.driver(cuMemAllocHost(staging.pointer, PIECE), "cuMemAllocHost(%d)", PIECE);
        staging.memory = MemorySegment.ofBuffer(staging.pointer.getByteBuffer(0, PIECE));
        CudaStatus.driver(cuEventCreate(staging.done, CUevent_flags.CU_EVENT_DISABLE_TIMING), "cuEventCreate");
      }
    });
  }

  /** Work on a piece: bytes {@code from} on, so many. */
  @FunctionalInterface
  private interface Piece {
    void run(Staging staging, long from, long bytes);
  }

  /** Copies to the GPU. */
  void upload(MemorySegment from, long address, long bytes) {
    inPieces(
      bytes,
      (staging, at, count) -> {
        MemorySegment.copy(from, at, staging.memory, 0, count);
        DevicePointer to = new DevicePointer(address + at);
        CudaStatus.driver(
          cuMemcpyHtoDAsync(to, staging.pointer, count, stream),
          "cuMemcpyHtoDAsync(%d of %d)",
          count,
          bytes
        );
      },
      (_, _, _) -> {}
    );
  }

  /** Copies to a block of its own on the GPU; returns its address. */
  long upload(CudaMemory memory, MemorySegment values, String what) {
    long address = memory.allocate(values.byteSize(), 1, what);
    upload(values, address, values.byteSize());
    return address;
  }

  /** Copies from the GPU. */
  void download(long address, MemorySegment to, long bytes) {
    inPieces(
      bytes,
      (staging, at, count) -> {
        DevicePointer from = new DevicePointer(address + at);
        CudaStatus.driver(
          cuMemcpyDtoHAsync(staging.pointer, from, count, stream),
          "cuMemcpyDtoHAsync(%d of %d)",
          count,
          bytes
        );
      },
      (staging, at, count) -> MemorySegment.copy(staging.memory, 0, to, at, count)
    );
  }

  /** Starts a copy for each piece, in turn from the two buffers, and ends it before its buffer is used again. */
  private void inPieces(long bytes, Piece start, Piece end) {
    lock.lock();
    try {
      if (closed) {
        throw new IllegalStateException("the device is closed");
      }
      context.makeCurrent();
      long pieces = Math.ceilDiv(bytes, PIECE);
      for (long piece = 0; piece < pieces + stagings.length; piece++) {
        Staging staging = stagings[(int) (piece % stagings.length)];
        long before = piece - stagings.length;
        if (before >= 0 && before < pieces) {
          CudaStatus.driver(cuEventSynchronize(staging.done), "cuEventSynchronize");
          end.run(staging, before * PIECE, Math.min(PIECE, bytes - before * PIECE));
        }
        if (piece < pieces) {
          start.run(staging, piece * PIECE, Math.min(PIECE, bytes - piece * PIECE));
          CudaStatus.driver(cuEventRecord(staging.done, stream), "cuEventRecord");
        }
      }
    } catch (RuntimeException | Error e) {
      // A copy may still be on its way from a buffer, which the next one would fill at once.
      int _ = cuStreamSynchronize(stream);
      throw e;
    } finally {
      lock.unlock();
    }
  }

  @Override
  public void close() {
    lock.lock();
    try {
      closed = true;
      context.run(() -> {
        CudaStatus.driver(cuStreamSynchronize(stream), "cuStreamSynchronize");
        for (Staging staging : stagings) {
          CudaStatus.driver(cuEventDestroy(staging.done), "cuEventDestroy");
          CudaStatus.driver(cuMemFreeHost(staging.pointer), "cuMemFreeHost");
        }
        CudaStatus.driver(cuStreamDestroy(stream), "cuStreamDestroy");
      });
    } finally {
      lock.unlock();
    }
  }
}

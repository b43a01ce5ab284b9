package dev.attar.distill.train;

import dev.attar.compute.Device;
import dev.attar.distill.DistillException;
import dev.attar.distill.DistillOptions;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;

/**
 * How a batch is computed.
 *
 * @param micro sequences that are computed together
 * @param recompute whether activations are computed anew for gradients
 */
record Partition(int micro, boolean recompute) {
  /** Rows of activations with which a processor is about as fast as it gets: more of them only leave its caches. */
  private static final int CPU_ROWS = 4096;

  /** The same of a GPU. */
  private static final int GPU_ROWS = 16384;

  /** What a partition needs. */
  @FunctionalInterface
  interface Need {
    /** Bytes of the device's memory. */
    long bytes(Partition partition);
  }

  /**
   * The first that fits of these: what was used before; the largest parts that are fast; smaller ones; and the same once more with
   * activations computed anew.
   *
   * @param before what a training that is gone on with was computed with
   * @throws DistillException if none fits
   */
  static Partition choose(DistillOptions options, Optional<Partition> before, Device device, Need need)
    throws DistillException {
    List<Partition> candidates = candidates(options, device.hasOwnMemory() ? GPU_ROWS : CPU_ROWS);
    before.filter(candidates::contains).ifPresent(partition -> candidates.addFirst(partition));
    // An eighth of what is free is left for what the device's libraries take.
    long free = device.freeMemory();
    long room = Math.min(free - free / 8, options.maxMemory().orElse(Long.MAX_VALUE));
    for (Partition candidate : candidates) {
      if (need.bytes(candidate) <= room) {
        return candidate;
      }
    }
    long least = candidates.stream().mapToLong(need::bytes).min().orElseThrow();
    String needs = "training needs " + Math.ceilDiv(least, 1L << 20) + " MiB of memory, ";
    String has = options.maxMemory().isPresent() && options.maxMemory().getAsLong() == room
      ? "--max-memory allows " + (room >> 20) + " MiB"
      : device.name() + " has " + (room >> 20) + " MiB free for that";
    throw new DistillException(needs + has);
  }

  private static List<Partition> candidates(DistillOptions options, int fastRows) {
    int batch = options.batch();
    int fast = Math.clamp(fastRows / options.context(), 1, batch);
    List<Integer> parts = options.micro().isPresent()
      ? List.of(options.micro().getAsInt())
      : IntStream.rangeClosed(1, fast)
          .map(i -> fast + 1 - i)
          .filter(i -> batch % i == 0)
          .boxed()
          .toList();
    List<Boolean> ways = options.recompute().map(List::of).orElse(List.of(false, true));
    List<Partition> candidates = new ArrayList<>();
    for (boolean recompute : ways) {
      parts.forEach(micro -> candidates.add(new Partition(micro, recompute)));
    }
    return candidates;
  }
}

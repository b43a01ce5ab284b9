package dev.attar.distill.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.distill.DistillException;
import dev.attar.distill.DistillOptions;
import java.io.IOException;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;

class PartitionTest {

  private static DistillOptions options(int micro, Boolean recompute, long mebibytes) {
    DistillOptions o = TestOptions.of().batch(24).build();
    return new DistillOptions(
      o.loss(),
      o.reconstruction(),
      o.schedule(),
      o.batch(),
      micro == 0 ? OptionalInt.empty() : OptionalInt.of(micro),
      512,
      Optional.ofNullable(recompute),
      1,
      1,
      0,
      1,
      o.device(),
      mebibytes == 0 ? OptionalLong.empty() : OptionalLong.of(mebibytes << 20)
    );
  }

  private static Partition choose(DistillOptions options, Partition before) throws IOException {
    try (Device device = Devices.cpu(1)) {
      // 100 MiB of weights; a sequence takes 10, or 4 if what is in the blocks is not kept.
      return Partition.choose(
        options,
        Optional.ofNullable(before),
        device,
        partition -> (100 + (partition.recompute() ? 4L : 10L) * partition.micro()) << 20
      );
    }
  }

  @Test
  void takesWhatIsFastAndFits() throws IOException {
    assertEquals(new Partition(8, false), choose(options(0, null, 0), null));
    assertEquals(new Partition(8, false), choose(options(0, null, 180), null));
    assertEquals(new Partition(6, false), choose(options(0, null, 179), null));
    assertEquals(new Partition(1, false), choose(options(0, null, 110), null));
    assertEquals(new Partition(2, true), choose(options(0, null, 109), null));
    assertEquals(new Partition(8, true), choose(options(0, true, 0), null));
    assertEquals(new Partition(12, false), choose(options(12, null, 0), null));
    assertEquals(new Partition(12, true), choose(options(12, null, 150), null));
  }

  @Test
  void goesOnAsBeforeIfThatFits() throws IOException {
    assertEquals(new Partition(3, true), choose(options(0, null, 0), new Partition(3, true)));
    assertEquals(new Partition(1, false), choose(options(0, null, 111), new Partition(3, true)));
    assertEquals(new Partition(8, false), choose(options(0, false, 0), new Partition(3, true)));
    // Not one of those that there are.
    assertEquals(new Partition(8, false), choose(options(0, null, 0), new Partition(1 << 30, false)));
  }

  @Test
  void saysWhatIsNeeded() {
    DistillException e = assertThrows(DistillException.class, () -> choose(options(0, null, 103), null));
    assertEquals("training needs 104 MiB of memory, --max-memory allows 103 MiB", e.getMessage());
    e = assertThrows(DistillException.class, () -> choose(options(12, false, 103), null));
    assertEquals("training needs 220 MiB of memory, --max-memory allows 103 MiB", e.getMessage());
  }
}

package dev.attar.compute.cuda;

import dev.attar.compute.Device;
import dev.attar.compute.PruningContract;
import java.io.IOException;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.parallel.ResourceLock;

/** On a GPU if there is one, on the emulated CUDA otherwise. */
@ResourceLock(CudaUnderTest.LOCK)
class CudaPruningTest extends PruningContract {

  private Device device;

  @BeforeAll
  void open() throws IOException {
    device = CudaUnderTest.load().open();
  }

  @AfterAll
  void close() {
    device.close();
  }

  @Override
  protected Device device() {
    return device;
  }
}

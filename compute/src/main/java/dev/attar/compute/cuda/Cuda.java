package dev.attar.compute.cuda;

import static jcuda.driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
import static jcuda.driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
import static jcuda.driver.JCudaDriver.cuDeviceGet;
import static jcuda.driver.JCudaDriver.cuDeviceGetAttribute;
import static jcuda.driver.JCudaDriver.cuDeviceGetCount;
import static jcuda.driver.JCudaDriver.cuDeviceGetName;
import static jcuda.driver.JCudaDriver.cuDeviceTotalMem;
import static jcuda.driver.JCudaDriver.cuDriverGetVersion;
import static jcuda.driver.JCudaDriver.cuInit;

import dev.attar.compute.CudaReport;
import dev.attar.compute.CudaReport.Gpu;
import dev.attar.compute.Device;
import dev.attar.compute.DeviceException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import jcuda.driver.CUdevice;
import jcuda.driver.CUresult;

/** Starts CUDA, once in a process, and says why not if it cannot be. */
public final class Cuda {

  /** The oldest CUDA whose driver takes our PTX and serves the libraries. */
  private static final int LEAST_VERSION = 12_000;

  /** The compute capability that our PTX is for, and newer ones: 7.5. */
  private static final int LEAST_CAPABILITY = 75;

  /** The driver is of another version than its kernel module. */
  private static final int SYSTEM_DRIVER_MISMATCH = 803;

  /** The library is one for linking, that does nothing. */
  private static final int STUB_LIBRARY = 34;

  private static final class Started {

    static final CudaReport REPORT = new Cuda().start();
  }

  private boolean absent;
  private Optional<String> version = Optional.empty();
  private final List<Gpu> gpus = new ArrayList<>();
  private Optional<Path> folder = Optional.empty();

  private Cuda() {}

  /** What there is. The first call starts the driver, which may take a second. */
  public static CudaReport report() {
    return Started.REPORT;
  }

  /**
   * Opens the first GPU.
   *
   * @throws IOException if CUDA cannot be used, or the GPU not now; the message is one line
   */
  public static Device open() throws IOException {
    Optional<String> problem = report().problem();
    if (problem.isPresent()) {
      throw new IOException(problem.get());
    }
    try {
      return new CudaDevice(0);
    } catch (DeviceException e) {
      throw new IOException(e.getMessage(), e);
    }
  }

  /**
   * Bytes of a GPU's memory that are free now. Takes some memory there for a moment.
   *
   * @param ordinal its number in the report
   * @throws IOException if the driver does not tell; the message is one line
   */
  public static long freeMemory(int ordinal) throws IOException {
    try (CudaContext context = new CudaContext(ordinal)) {
      return context.freeBytes();
    } catch (DeviceException e) {
      throw new IOException(e.getMessage(), e);
    }
  }

  private CudaReport start() {
    Optional<String> problem = Optional.empty();
    try {
      startOrThrow();
    } catch (IOException | DeviceException e) {
      problem = Optional.of(e.getMessage());
    }
    return new CudaReport(problem, absent, version, gpus, folder);
  }

  private void startOrThrow() throws IOException {
    Optional<String> unsupported = CudaLibraries.unsupported(
      System.getProperty("os.name"),
      System.getProperty("os.arch")
    );
    if (unsupported.isPresent()) {
      absent = true;
      throw new IOException(unsupported.get());
    }
    CudaLibraries libraries = CudaLibraries.ofThisProcess();
    if (!libraries.loadDriver()) {
      absent = true;
      throw new IOException(libraries.driverName() + " not found: no NVIDIA driver");
    }
    startDriver(libraries);
    findGpus();
    libraries.loadRuntime();
    folder = libraries.folder();
  }

  private void startDriver(CudaLibraries libraries) throws IOException {
    int[] number = new int[1];
    int versionStatus = cuDriverGetVersion(number);
    if (versionStatus == CUresult.CUDA_SUCCESS && number[0] > 0) {
      String text = number[0] / 1000 + "." + (number[0] % 1000) / 10;
      version = Optional.of(text);
      if (number[0] < LEAST_VERSION) {
        throw new IOException("the driver is for CUDA " + text + ", expected 12.0 or later");
      }
    }
    int status = cuInit(0);
    switch (status) {
      case CUresult.CUDA_SUCCESS -> CudaStatus.driver(versionStatus, "cuDriverGetVersion");
      case CUresult.CUDA_ERROR_NO_DEVICE -> throw noGpu();
      case STUB_LIBRARY -> throw new IOException(
        libraries.driverName() + " is a stub for linking programs, not a driver: " + named(status)
      );
      case SYSTEM_DRIVER_MISMATCH -> throw new IOException(
        "the NVIDIA driver's library and its kernel module are of different versions, restart the machine: " +
          named(status)
      );
      default -> throw new IOException("the NVIDIA driver does not start: " + named(status));
    }
  }

  private static String named(int status) {
    return CUresult.stringFor(status) + " (" + status + ")";
  }

  private static IOException noGpu() {
    String visible = System.getenv("CUDA_VISIBLE_DEVICES");
    return new IOException(
      "no NVIDIA GPU found by the driver" + (visible == null ? "" : ", CUDA_VISIBLE_DEVICES is '" + visible + "'")
    );
  }

  private void findGpus() throws IOException {
    int[] count = new int[1];
    CudaStatus.driver(cuDeviceGetCount(count), "cuDeviceGetCount");
    for (int i = 0; i < count[0]; i++) {
      CUdevice device = new CUdevice();
      CudaStatus.driver(cuDeviceGet(device, i), "cuDeviceGet(%d)", i);
      long[] bytes = new long[1];
      CudaStatus.driver(cuDeviceTotalMem(bytes, device), "cuDeviceTotalMem(%d)", i);
      gpus.add(new Gpu(name(device), capability(device), bytes[0]));
    }
    if (gpus.isEmpty()) {
      throw noGpu();
    }
    Gpu first = gpus.getFirst();
    if (first.capability() < LEAST_CAPABILITY) {
      throw new IOException(
        first.name() + " has compute capability " + first.computeCapability() + ", expected 7.5 or later"
      );
    }
  }

  /** A GPU's name. */
  static String name(CUdevice device) {
    byte[] text = new byte[256];
    CudaStatus.driver(cuDeviceGetName(text, text.length, device), "cuDeviceGetName");
    String whole = new String(text, StandardCharsets.UTF_8);
    int end = whole.indexOf('\0');
    return whole.substring(0, end < 0 ? whole.length() : end);
  }

  /** A GPU's compute capability, ten times the major number and the minor one. */
  static int capability(CUdevice device) {
    return (
      10 * attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device) +
      attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
    );
  }

  private static int attribute(int number, CUdevice device) {
    int[] value = new int[1];
    CudaStatus.driver(cuDeviceGetAttribute(value, number, device), "cuDeviceGetAttribute(%d)", number);
    return value[0];
  }
}

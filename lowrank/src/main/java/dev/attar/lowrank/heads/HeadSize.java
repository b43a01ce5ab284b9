package dev.attar.lowrank.heads;

import dev.attar.calibration.Calibrator;
import dev.attar.compute.Device;
import dev.attar.compute.DeviceChoice;
import dev.attar.compute.DeviceException;
import dev.attar.compute.Devices;
import dev.attar.formats.Model;
import dev.attar.lowrank.LowRankException;
import dev.attar.lowrank.LowRankListener;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * Makes the heads of a Llama-like model smaller, so that llama.cpp runs what is left as the same architecture: there keys, values and
 * rotations must have the same size.
 *
 * <p>Of queries and keys, rotary pairs of neighbouring frequencies give way to fewer: the same frequencies in all layers and heads, where
 * that costs least, and what has one of them the best for each group of heads. Values and outputs are projected and fitted anew. All of it
 * from statistics of the model as it is.
 */
public final class HeadSize {

  private HeadSize() {}

  /**
   * The size of a model's heads, in values.
   *
   * @throws LowRankException if they cannot be made smaller, in one line that says why
   */
  public static int of(Model model) throws IOException {
    return HeadLayout.of(model).size();
  }

  /**
   * Checks that heads can get a size.
   *
   * @throws LowRankException if they cannot, in one line that says why
   */
  public static void require(Model model, int size) throws IOException {
    HeadLayout.of(model).require(size);
  }

  /** Sizes that llama.cpp's products on the processor are made for: with others, a prompt takes several times as long. */
  public static final int FAST = 16;

  /**
   * The nearest sizes with which rows of {@code attn_output} are whole blocks of a tensor type in all layers: one not above and one not
   * below what is wanted, the same once if it is such a size itself; fewer if there is none below the model's own. Multiples of {@link
   * #FAST} only, if there are any.
   *
   * @param size what is wanted, above 0
   * @param block values in a block: 32, or 256 for k-quants
   * @throws LowRankException if the model's heads cannot be made smaller
   */
  public static List<Integer> goodSizes(Model model, int size, int block) throws IOException {
    HeadLayout layout = HeadLayout.of(model);
    List<Integer> fitting = fitting(layout, block);
    List<Integer> fast = fitting
      .stream()
      .filter(some -> some % FAST == 0)
      .toList();
    List<Integer> good = fast.isEmpty() ? fitting : fast;
    Stream<Integer> below = good
      .stream()
      .filter(some -> some <= size)
      .max(Integer::compare)
      .stream();
    Stream<Integer> above = good
      .stream()
      .filter(some -> some >= size)
      .min(Integer::compare)
      .stream();
    return Stream.concat(below, above).distinct().toList();
  }

  private static List<Integer> fitting(HeadLayout layout, int block) {
    return IntStream.iterate(2, some -> some < layout.size(), some -> some + 2)
      .filter(some ->
        layout
          .layers()
          .stream()
          .allMatch(layer -> ((long) layer.heads() * some) % block == 0)
      )
      .boxed()
      .toList();
  }

  /**
   * Runs the model on the calibration text and finds what smaller heads are made of.
   *
   * @param model the model
   * @param runnable the same as a file that llama.cpp can load
   * @param folder an empty folder for what is measured meanwhile and for the files of the result
   * @throws LowRankException if the heads of this model cannot be made smaller, not to this size, or the memory does not suffice
   * @throws IOException if a file cannot be read or written, or the model cannot be run on the texts
   */
  public static HeadResult run(Model model, Path runnable, HeadOptions options, Path folder, LowRankListener listener)
    throws IOException, InterruptedException {
    HeadLayout layout = HeadLayout.of(model);
    layout.require(options.size());
    try (Devices.Opened opened = Devices.open(options.device(), options.threads())) {
      Device device = opened.device();
      listener.device(opened.line());
      HeadRun run = new HeadRun(layout, options, device, folder, listener);
      run.requireMemory();
      // What this process may not have is not tried again by the worker.
      DeviceChoice theirs = device.hasOwnMemory() ? options.device() : DeviceChoice.CPU;
      Calibrator.Settings settings = new Calibrator.Settings(
        options.texts(),
        options.tokens(),
        options.context(),
        options.threads(),
        theirs,
        false,
        false,
        options.patience()
      );
      try (Calibrator calibrator = Calibrator.open(runnable, settings, (_, done, all) -> run.window(done, all))) {
        calibrator.warnings().forEach(listener::warn);
        return run.run(calibrator);
      }
    } catch (DeviceException e) {
      throw new IOException(e.getMessage(), e);
    } catch (IOException e) {
      if (Thread.interrupted()) {
        // An interrupted thread gets this from whatever it was doing.
        throw (InterruptedException) new InterruptedException().initCause(e);
      }
      throw e;
    }
  }
}

package dev.attar.prune.structure;

import dev.attar.calibration.CalibrationListener;
import dev.attar.calibration.Calibrator;
import dev.attar.calibration.DivergenceMeter;
import dev.attar.compute.Device;
import dev.attar.compute.DeviceChoice;
import dev.attar.compute.DeviceException;
import dev.attar.compute.Devices;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.prune.PruneException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;

/** Chooses what is removed of a model, and fits what is left. */
public final class StructureRun {

  /**
   * The most work, in multiplications, for which layers are fitted sequentially: a run of the model over the text for each layer. Some
   * ten minutes on two cores.
   */
  static final double SEQUENTIAL_WORK = 2e13;

  private StructureRun() {}

  /**
   * Runs the model on the calibration text and chooses.
   *
   * <p>Neurons and groups of heads go by what their removal costs where they are added up, measured on the text, and what is left is
   * fitted; in a small model each layer to what the layers before it have become. Layers go one after the other: of those of least
   * influence the one whose removal is measured to harm least.
   *
   * @param model the model
   * @param runnable the same as a file that llama.cpp can load
   * @param options what is removed, and how
   * @param folder an empty folder for what is measured and computed meanwhile; the files of the result are in it
   * @param meter measures what candidates lose
   * @throws PruneException if it cannot be removed from this model, or the memory does not suffice
   * @throws IOException if a file cannot be read or written, or the model cannot be run on the texts
   */
  public static StructureResult run(
    Model model,
    Path runnable,
    StructureOptions options,
    Path folder,
    DivergenceMeter meter,
    StructureListener listener
  ) throws IOException, InterruptedException {
    return run(model, runnable, options, isSmall(model, options), folder, meter, listener);
  }

  /**
   * The same.
   *
   * @param sequential whether layers are fitted sequentially, if they are fitted
   */
  static StructureResult run(
    Model model,
    Path runnable,
    StructureOptions options,
    boolean sequential,
    Path folder,
    DivergenceMeter meter,
    StructureListener listener
  ) throws IOException, InterruptedException {
    Anatomy anatomy = Anatomy.of(model);
    anatomy.require(options.structure(), options.nonUniform());
    try {
      return options.structure() == Structure.LAYERS
        ? removeLayers(model, runnable, anatomy, options, meter, listener)
        : narrow(model, runnable, anatomy, options, sequential && options.refit(), folder, meter, listener);
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

  private static boolean isSmall(Model model, StructureOptions options) throws IOException {
    double weights = 0;
    for (Tensor tensor : model.tensors()) {
      if (tensor.info().type().isQuantized()) {
        // Weights are replaced as numbers, which a model of encoded ones has no place for.
        return false;
      }
      weights += tensor.info().rank() > 1 ? tensor.info().elements() : 0;
    }
    // Each layer is reached half way through the model on average, by the base and by the model that is narrowed.
    return Anatomy.of(model).layers().size() * weights * options.tokens() <= SEQUENTIAL_WORK;
  }

  private static StructureResult removeLayers(
    Model model,
    Path runnable,
    Anatomy anatomy,
    StructureOptions options,
    DivergenceMeter meter,
    StructureListener listener
  ) throws IOException, InterruptedException {
    double[] influence;
    long tokens;
    try (
      Calibrator calibrator = Calibrator.open(
        runnable,
        calibration(options, DeviceChoice.CPU, false),
        (_, done, windows) -> listener.at("measuring the influence of layers", done, windows, "windows")
      )
    ) {
      calibrator.warnings().forEach(listener::warn);
      influence = calibrator.influence();
      tokens = calibrator.tokens();
    }
    if (influence.length != anatomy.layers().size()) {
      throw new IOException(
        runnable + ": llama.cpp runs " + influence.length + " layers, expected " + anatomy.layers().size()
      );
    }
    LayerRemoval.Chosen chosen = LayerRemoval.run(
      model,
      anatomy.whole(),
      influence,
      options.step().units(),
      meter,
      listener
    );
    return new StructureResult(chosen.cut(), Map.of(), chosen.reports(), tokens, false, Optional.empty());
  }

  private static StructureResult narrow(
    Model model,
    Path runnable,
    Anatomy anatomy,
    StructureOptions options,
    boolean sequential,
    Path folder,
    DivergenceMeter meter,
    StructureListener listener
  ) throws IOException, InterruptedException {
    try (Devices.Opened opened = Devices.open(options.device(), options.threads())) {
      Device device = opened.device();
      listener.device(opened.line());
      // What this process may not have is not tried again by the worker.
      DeviceChoice theirs = device.hasOwnMemory() ? options.device() : DeviceChoice.CPU;
      Narrowing narrowing = new Narrowing(model, anatomy, options, sequential, device, folder, meter, listener);
      narrowing.requireMemory();
      CalibrationListener windows = (_, done, all) -> narrowing.window(done, all);
      try (Calibrator calibrator = Calibrator.open(runnable, calibration(options, theirs, sequential), windows)) {
        calibrator.warnings().forEach(listener::warn);
        return narrowing.run(calibrator);
      }
    }
  }

  private static Calibrator.Settings calibration(StructureOptions options, DeviceChoice device, boolean writable) {
    return new Calibrator.Settings(
      options.texts(),
      options.tokens(),
      options.context(),
      options.threads(),
      device,
      false,
      writable,
      options.patience()
    );
  }
}

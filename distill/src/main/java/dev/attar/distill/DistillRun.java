package dev.attar.distill;

import dev.attar.distill.teacher.Teacher;
import dev.attar.distill.train.Trainer;
import dev.attar.formats.Model;
import java.io.IOException;
import java.nio.file.Path;

/**
 * Trains a student, in a folder of its own: {@code checkpoint.json} is the last checkpoint and names the files of weights and moments that
 * belong to it, so that a run that was killed at any moment can be gone on with. On the processor the losses and weights are then those of
 * a run that was not, bit for bit. {@code metrics.jsonl} has a line for each step and each validation.
 *
 * <p>A training is gone on with by the same options, but for how long it may take in all, how often it is kept, what computes it and in
 * which parts of a batch. It goes on too where its time was up, with more of it; the number of steps stays.
 */
public final class DistillRun {

  private DistillRun() {}

  /**
   * Checks that no run trains in a folder.
   *
   * @param work the folder, which need not exist
   * @throws DistillException if one does
   * @throws IOException if that cannot be found out
   */
  public static void requireFree(Path work) throws IOException {
    Trainer.requireFree(work);
  }

  /**
   * Trains, or goes on with training.
   *
   * @param student what it begins with
   * @param teacher what it learns from; closed by its owner
   * @param options how
   * @param identity what else makes a run another one, besides the options: digests of teacher, student and texts. A checkpoint of another
   *     identity is refused
   * @param work a folder for checkpoints, metrics and weights; made if it is not there
   * @param resume whether to go on with the last checkpoint in the folder, if there is one; otherwise there must be none
   * @throws DistillException if the student cannot be trained, or training diverged: the message names the step and the checkpoint that is
   *     left
   * @throws IOException if a file cannot be read or written, or the teacher fails
   * @throws InterruptedException if the thread is interrupted: the last checkpoint is left
   */
  public static DistillResult run(
    Model student,
    Teacher teacher,
    DistillOptions options,
    String identity,
    Path work,
    boolean resume,
    DistillListener listener
  ) throws IOException, InterruptedException {
    return Trainer.run(student, teacher, options, identity, work, resume, listener, System::nanoTime);
  }

  /**
   * What training takes.
   *
   * @param bytes of the device's memory
   * @param micro sequences that are computed together
   * @param recompute whether activations are computed anew for gradients
   */
  public record Need(long bytes, int micro, boolean recompute) {}

  /**
   * Finds out what training would take, and whether there is so much, before any time is spent.
   *
   * @param teacherWidth the teacher's embedding length
   * @throws DistillException if the student cannot be trained, or the device has too little memory
   * @throws IOException if there is no such device, or the student cannot be read
   */
  public static Need need(Model student, DistillOptions options, int teacherWidth) throws IOException {
    return Trainer.need(student, options, teacherWidth);
  }
}

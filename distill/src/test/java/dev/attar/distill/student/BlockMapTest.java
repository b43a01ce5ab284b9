package dev.attar.distill.student;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.MemoryModel;
import dev.attar.distill.DistillException;
import dev.attar.distill.DistillOptions.StatePair;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class BlockMapTest {

  private static final int WIDTH = 8;

  /** A model of which nothing but the embedding and the norms is there; blocks with equal seeds are equal. */
  private static Model model(int width, long embedding, long... blocks) {
    List<Tensor> tensors = new ArrayList<>();
    tensors.add(tensor("token_embd.weight", embedding, width, 5));
    for (int i = 0; i < blocks.length; i++) {
      tensors.add(tensor("blk." + i + ".attn_norm.weight", blocks[i], width));
      tensors.add(tensor("blk." + i + ".ffn_norm.weight", 1, width));
    }
    Metadata metadata = Metadata.of(
      Map.of(
        "general.architecture",
        MetadataValue.string("llama"),
        "llama.block_count",
        MetadataValue.uint32(blocks.length),
        "llama.embedding_length",
        MetadataValue.uint32(width)
      )
    );
    return new MemoryModel(metadata, tensors);
  }

  private static Tensor tensor(String name, long seed, long... shape) {
    TensorInfo info = new TensorInfo(name, TensorType.F32, shape);
    float[] values = new float[(int) info.elements()];
    Random random = new Random(seed);
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return MemoryModel.tensor(info, values);
  }

  private static Model kept(Model model, int... layers) {
    return new MemoryModel(
      model.metadata().with("attar.prune.layers", MetadataValue.int32s(layers)),
      ((MemoryModel) model).tensors()
    );
  }

  private static final Model TEACHER = model(WIDTH, 7, 10, 11, 12, 13, 14, 15, 16, 17);

  private static List<Integer> ends(Model student) throws IOException {
    return BlockMap.of(TEACHER, student, Optional.empty()).ends();
  }

  @Test
  void chosenBlocksStandForWhatIsLeftOutBehindThem() throws IOException {
    Model student = model(WIDTH, 7, 20, 21, 22, 23);
    BlockMap map = BlockMap.of(TEACHER, student, Optional.of(List.of(0, 2, 4, 6)));
    assertEquals(List.of(1, 3, 5, 7), map.ends());
    assertEquals(Optional.empty(), map.obstacle());
    assertEquals("the student's blocks are the blocks 0, 2, 4, 6 of the teacher's 8, as chosen", map.origin());
    assertEquals(
      List.of(new StatePair(0, 1), new StatePair(1, 3), new StatePair(2, 5), new StatePair(3, 7)),
      map.pairs()
    );
    assertEquals(List.of(0, 6, 7), BlockMap.ends(List.of(0, 1, 7), 8));
    assertEquals(List.of(4, 7), BlockMap.ends(List.of(3, 5), 8));
    assertEquals(List.of(7), BlockMap.ends(List.of(5), 8));
    assertEquals(List.of(0, 1, 2, 3), BlockMap.ends(List.of(0, 1, 2, 3), 4));
  }

  @Test
  void otherDepthsEvenly() {
    assertEquals(List.of(1, 3, 5, 7), BlockMap.evenly(4, 8));
    assertEquals(List.of(1, 4, 7), BlockMap.evenly(3, 8));
    assertEquals(List.of(0, 2, 3, 5, 7), BlockMap.evenly(5, 8));
    assertEquals(List.of(0, 1, 2), BlockMap.evenly(3, 3));
    assertEquals(List.of(0, 0, 0, 1), BlockMap.evenly(4, 2));
    for (int teacher = 1; teacher < 40; teacher++) {
      for (int student = 1; student <= teacher; student++) {
        List<Integer> ends = BlockMap.evenly(student, teacher);
        assertEquals(teacher - 1, ends.getLast());
        int begin = -1;
        for (int end : ends) {
          int length = end - begin;
          assertTrue(length == teacher / student || length == Math.ceilDiv(teacher, student), ends.toString());
          begin = end;
        }
      }
    }
  }

  @Test
  void prunedCheckpointsAreRecognized() throws IOException {
    BlockMap map = BlockMap.of(TEACHER, model(WIDTH, 7, 10, 11, 16, 17), Optional.empty());
    assertEquals(List.of(0, 5, 6, 7), map.ends());
    assertEquals(
      "the student's blocks are the blocks 0, 1, 6, 7 of the teacher's 8, whose norms are the student's",
      map.origin()
    );
    Model trained = model(WIDTH, 7, 20, 21, 22, 23);
    assertEquals(List.of(0, 5, 6, 7), ends(kept(trained, 0, 1, 6, 7)));
    // What is left of what was left: the numbers are another model's.
    assertEquals(List.of(0, 5, 6, 7), ends(kept(model(WIDTH, 7, 10, 11, 16, 17), 0, 1, 2, 3)));
    for (int[] bad : new int[][] { { 0, 1, 6 }, { 0, 1, 6, 8 }, { -1, 1, 6, 7 }, { 0, 6, 1, 7 }, {} }) {
      assertEquals(List.of(1, 3, 5, 7), ends(kept(trained, bad)));
    }
    // Blocks in another order, or not known, or alike.
    assertEquals(List.of(1, 3, 5, 7), ends(model(WIDTH, 7, 10, 16, 11, 17)));
    assertEquals(List.of(1, 3, 5, 7), ends(model(WIDTH, 7, 10, 11, 16, 99)));
    BlockMap alike = BlockMap.of(model(WIDTH, 7, 1, 1, 1, 1), model(WIDTH, 7, 1, 1), Optional.empty());
    assertEquals(List.of(1, 3), alike.ends());
    assertEquals("the student's blocks stand for ranges of equal length of the teacher's 4", alike.origin());
  }

  @Test
  void whyBlocksCannotBeFitted() throws IOException {
    BlockMap narrower = BlockMap.of(TEACHER, model(4, 7, 20, 21), Optional.empty());
    assertEquals(List.of(3, 7), narrower.ends());
    assertEquals(
      "the student's residual stream is 4 wide, the teacher's 8: blocks cannot be exchanged",
      narrower.obstacle().orElseThrow()
    );
    BlockMap deeper = BlockMap.of(model(WIDTH, 7, 10, 11), model(WIDTH, 7, 20, 21, 22, 23), Optional.empty());
    assertEquals("the student has more blocks, 4, than the teacher, 2", deeper.obstacle().orElseThrow());
    assertEquals(List.of(new StatePair(2, 0), new StatePair(3, 1)), deeper.pairs());
    BlockMap fresh = BlockMap.of(TEACHER, model(WIDTH, 8, 20, 21), Optional.empty());
    assertEquals(
      "the student's embedding is not the teacher's: what enters its blocks is something else",
      fresh.obstacle().orElseThrow()
    );
  }

  @Test
  void onlySomeStatesOfDeepStudents() throws IOException {
    long[] blocks = IntStream.range(0, 30).asLongStream().toArray();
    BlockMap map = BlockMap.of(model(WIDTH, 7, blocks), model(WIDTH, 7, blocks), Optional.empty());
    assertEquals(
      List.of(new StatePair(6, 6), new StatePair(14, 14), new StatePair(21, 21), new StatePair(29, 29)),
      map.pairs()
    );
  }

  @Test
  void layersThatDoNotFit() {
    Model student = model(WIDTH, 7, 20, 21);
    for (List<Integer> layers : List.of(List.of(0), List.of(0, 8), List.of(3, 3), List.<Integer>of())) {
      DistillException e = assertThrows(DistillException.class, () ->
        BlockMap.of(TEACHER, student, Optional.of(layers))
      );
      assertEquals(
        "test-model: layers " +
          layers +
          ", expected 2 ascending numbers from 0 to 7, one for each of the student's blocks",
        e.getMessage()
      );
    }
    Model nothing = new MemoryModel(student.metadata().without("llama.block_count"), List.of());
    assertEquals(
      "test-model: key llama.block_count: found nothing, expected a number above 0",
      assertThrows(DistillException.class, () -> ends(nothing)).getMessage()
    );
  }
}

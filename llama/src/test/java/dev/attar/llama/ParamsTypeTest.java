package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.StructLayout;
import org.junit.jupiter.api.Test;

class ParamsTypeTest {

  private static long offset(StructLayout layout, String field) {
    return layout.byteOffset(PathElement.groupElement(field));
  }

  /** The numbers are a C compiler's {@code sizeof} and {@code offsetof} on the pinned release's headers. */
  @Test
  void layoutsAreThoseOfTheHeader() {
    StructLayout model = ParamsType.MODEL.layout();
    assertEquals(80, model.byteSize());
    assertEquals(16, offset(model, "n_gpu_layers"));
    assertEquals(48, offset(model, "progress_callback"));
    assertEquals(72, offset(model, "vocab_only"));
    StructLayout context = ParamsType.CONTEXT.layout();
    assertEquals(160, context.byteSize());
    assertEquals(32, offset(context, "n_threads_batch"));
    assertEquals(88, offset(context, "cb_eval"));
    assertEquals(130, offset(context, "no_perf"));
    assertEquals(152, offset(context, "ctx_other"));
    StructLayout quantize = ParamsType.QUANTIZE.layout();
    assertEquals(64, quantize.byteSize());
    assertEquals(40, offset(quantize, "tt_overrides"));
    assertEquals(56, offset(quantize, "max_buf_size"));
    assertEquals(56, Batch.LAYOUT.byteSize());
    assertEquals(48, Timings.LAYOUT.byteSize());
  }

  @Test
  void fieldsKeepWhatIsSet() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      ParamsType.Params params = ParamsType.CONTEXT.defaults(LlamaLibrary.load(), arena);
      params.set("n_ctx", 4096).set("no_perf", false).set("rope_freq_base", 1e6f);
      assertEquals(4096, params.get("n_ctx"));
      assertEquals(false, params.get("no_perf"));
      assertEquals(1e6f, params.get("rope_freq_base"));
      assertEquals(2048, params.get("n_batch"));
      assertThrows(IllegalArgumentException.class, () -> params.set("n_context", 1));
    }
  }
}

package dev.attar.formats.tokenizer;

import com.google.protobuf.CodedInputStream;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.WireFormat;
import dev.attar.formats.FormatException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * The pieces of a SentencePiece model file. Of the message {@code ModelProto} in <a
 * href="https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto">sentencepiece_model.proto</a> only
 * {@code pieces} is read.
 */
final class SentencePieceModel {

  /** A piece: its text, log probability and kind. */
  record Piece(String text, float score, TokenType type) {}

  private static final long MAX_BYTES = 256L << 20;

  private static final int PIECES = tag(1, WireFormat.WIRETYPE_LENGTH_DELIMITED);
  private static final int PIECE_TEXT = tag(1, WireFormat.WIRETYPE_LENGTH_DELIMITED);
  private static final int PIECE_SCORE = tag(2, WireFormat.WIRETYPE_FIXED32);
  private static final int PIECE_TYPE = tag(3, WireFormat.WIRETYPE_VARINT);

  private SentencePieceModel() {}

  /**
   * Reads a file.
   *
   * @throws FormatException if it is not a SentencePiece model or has no pieces
   */
  static List<Piece> read(Path file) throws IOException {
    long size = Files.size(file);
    if (size > MAX_BYTES) {
      throw new FormatException(file, "size", size + " bytes", "at most " + MAX_BYTES);
    }
    return parse(file, Files.readAllBytes(file));
  }

  /** As {@link #read}, from the file's bytes. */
  static List<Piece> parse(Path file, byte[] bytes) throws IOException {
    List<Piece> pieces = new ArrayList<>();
    CodedInputStream in = CodedInputStream.newInstance(bytes);
    try {
      for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
        if (tag == PIECES) {
          int limit = in.pushLimit(in.readRawVarint32());
          pieces.add(piece(in));
          in.popLimit(limit);
        } else if (!in.skipField(tag)) {
          throw new FormatException(file, "not a SentencePiece model: stray end of group at " + in.getTotalBytesRead());
        }
      }
    } catch (InvalidProtocolBufferException e) {
      String reason = e.getMessage().lines().findFirst().orElse("");
      throw new FormatException(file, "not a SentencePiece model: at byte " + in.getTotalBytesRead() + ": " + reason);
    }
    if (pieces.isEmpty()) {
      throw new FormatException(file, "not a SentencePiece model: no pieces");
    }
    return pieces;
  }

  private static Piece piece(CodedInputStream in) throws IOException {
    String text = "";
    float score = 0;
    int type = TokenType.NORMAL.id();
    for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
      if (tag == PIECE_TEXT) {
        text = in.readStringRequireUtf8();
      } else if (tag == PIECE_SCORE) {
        score = in.readFloat();
      } else if (tag == PIECE_TYPE) {
        type = in.readEnum();
      } else if (!in.skipField(tag)) {
        throw new InvalidProtocolBufferException("stray end of group in a piece");
      }
    }
    return new Piece(text, score, TokenType.ofPiece(type));
  }

  private static int tag(int field, int wireType) {
    return (field << 3) | wireType;
  }
}

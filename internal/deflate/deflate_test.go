package deflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestOffers(t *testing.T) {
	for offer, want := range map[string]string{
		"permessage-deflate":                                                         Answer,
		"permessage-deflate; client_max_window_bits":                                 Answer,
		"permessage-deflate; client_max_window_bits=8":                               Answer,
		"permessage-deflate; server_no_context_takeover; client_no_context_takeover": Answer,
		"permessage-deflate; server_max_window_bits=15":                              Answer + "; server_max_window_bits=15",
		"permessage-deflate; server_max_window_bits=10, permessage-deflate":          Answer,
		"x-webkit-deflate-frame, permessage-deflate":                                 Answer,
		"": "",
		"permessage-deflate; server_max_window_bits=10":                              "",
		"permessage-deflate; server_max_window_bits":                                 "",
		"permessage-deflate; client_max_window_bits=16":                              "",
		"permessage-deflate; client_max_window_bits=07":                              "",
		"permessage-deflate; server_no_context_takeover=1":                           "",
		"permessage-deflate; server_no_context_takeover; server_no_context_takeover": "",
		"permessage-deflate; unknown":                                                "",
		"permessage-deflate;;":                                                       "",
		"permessage-bzip2":                                                           "",
	} {
		if got, ok := Accepts([]string{offer}); got != want || ok != (want != "") {
			t.Errorf("%q: %q, want %q", offer, got, want)
		}
	}
}

// inflate reads a message with other means.
func inflate(t *testing.T, message []byte) []byte {
	t.Helper()
	got, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(message), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPartsOfSeveralOriginsMakeOneMessage(t *testing.T) {
	random := make([]byte, 100_000)
	for i := range random {
		random[i] = byte(rand.Int())
	}
	for _, shared := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("so many words "), 10_000), random} {
		for _, own := range []string{"", "own"} {
			message := Store(nil, []byte(own))
			if len(message) != StoredSize(len(own)) {
				t.Errorf("%q takes %d bytes", own, len(message))
			}
			message = append(Store(Compress(message, shared), []byte(own)), End)
			want := own + string(shared) + own
			if got := inflate(t, message); string(got) != want {
				t.Errorf("%d bytes came back from %d", len(got), len(want))
			}
			if err := Inflate(message, int64(len(want)), func(got []byte) error {
				if string(got) != want {
					t.Errorf("%d bytes came back from %d", len(got), len(want))
				}
				return nil
			}); err != nil {
				t.Errorf("%d bytes: %v", len(want), err)
			}
		}
	}
}

func TestABombIsDefusedAtTheLimit(t *testing.T) {
	const limit = 1 << 20
	bomb := append(Compress(nil, make([]byte, 64<<20)), End)
	if len(bomb) > limit {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	never := func([]byte) error { t.Error("it went through"); return nil }
	if err := Inflate(bomb, limit, never); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	exact := append(Compress(nil, make([]byte, limit)), End)
	if err := Inflate(exact, limit, func(got []byte) error { return nil }); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if err := Inflate(exact, limit-1, never); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestWhatIsNotDeflatedIsInvalid(t *testing.T) {
	good := Compress(nil, []byte(strings.Repeat("words ", 100)))
	for _, bad := range [][]byte{{0xff}, {0x06, 0x00}, []byte("plain text"), good[:len(good)/2]} {
		if err := Inflate(bad, 1<<20, func([]byte) error { t.Errorf("%x went through", bad); return nil }); !errors.Is(err, ErrInvalid) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

func TestMessagesOfOtherLibrariesAreInflated(t *testing.T) {
	for _, text := range []string{"", "x", strings.Repeat("words ", 10_000)} {
		for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, level)
			io.WriteString(w, text)
			w.Flush()
			message := bytes.TrimSuffix(b.Bytes(), []byte(tail))
			if err := Inflate(message, int64(len(text)), func(got []byte) error {
				if string(got) != text {
					t.Errorf("level %d: %d bytes, want %d", level, len(got), len(text))
				}
				return nil
			}); err != nil {
				t.Errorf("level %d, %d bytes: %v", level, len(text), err)
			}
			b.Reset() // a client may end its stream too
			w.Reset(&b)
			io.WriteString(w, text)
			w.Close()
			if err := Inflate(append(b.Bytes(), 0), int64(len(text)), func(got []byte) error { return nil }); err != nil {
				t.Errorf("a final block at level %d: %v", level, err)
			}
		}
	}
}

func FuzzInflate(f *testing.F) {
	f.Add(append(Compress(nil, []byte("hello hello hello")), End))
	f.Add([]byte{})
	f.Add([]byte("\x06\x00\xff"))
	f.Fuzz(func(t *testing.T, message []byte) {
		const limit = 4096
		_ = Inflate(message, limit, func(got []byte) error {
			if len(got) > limit {
				t.Fatalf("%d bytes", len(got))
			}
			return nil
		})
	})
}

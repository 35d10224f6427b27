package bench

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A histogram counts durations in buckets that are a 32nd apart, up to about an hour, without a lock.
type histogram struct {
	start   atomic.Int64 // of the measured part, nanoseconds on the clock of messages
	max     atomic.Int64
	buckets [42 * 32]atomic.Uint64
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 32 {
		return int(v)
	}
	shift := bits.Len64(v) - 6
	return min((shift+1)*32+int(v>>shift)-32, 42*32-1)
}

// upper is the largest duration of a bucket.
func upper(i int) time.Duration {
	if i < 32 {
		return time.Duration(i)
	}
	shift := i/32 - 1
	return time.Duration((uint64(i%32)+33)<<shift - 1)
}

func (h *histogram) add(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	for {
		old := h.max.Load()
		if int64(d) <= old || h.max.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func (h *histogram) percentiles() Percentiles {
	var total uint64
	for i := range h.buckets {
		total += h.buckets[i].Load()
	}
	at := func(p float64) float64 {
		if total == 0 {
			return 0
		}
		rank, seen := uint64(math.Ceil(p*float64(total))), uint64(0)
		for i := range h.buckets {
			if seen += h.buckets[i].Load(); seen >= rank {
				return float64(min(upper(i), time.Duration(h.max.Load()))) / 1e3
			}
		}
		return 0
	}
	return Percentiles{at(0.5), at(0.9), at(0.99), float64(h.max.Load()) / 1e3}
}

// A process is a process id whose costs can be read where /proc exists; 0 and other systems cost nothing.
type process int

func self() process { return process(os.Getpid()) }

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for what it shows to programs.
const ticksPerSecond = 100

// cpu is the process's user and system time in seconds.
func (p process) cpu() float64 {
	text := p.file("stat")
	end := bytes.LastIndexByte(text, ')') // the name before it may hold spaces
	if end < 0 {
		return 0
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseUint(fields[11], 10, 64)
	system, _ := strconv.ParseUint(fields[12], 10, 64)
	return float64(user+system) / ticksPerSecond
}

// rss is the process's resident memory in bytes.
func (p process) rss() int64 {
	fields := strings.Fields(string(p.file("statm")))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func (p process) file(name string) []byte {
	if p <= 0 {
		return nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", int(p), name))
	if err != nil {
		return nil
	}
	return text
}

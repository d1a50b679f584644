// Gobolt runs the benchmark's workloads on real bbolt and prints what
// ci/bench/worker.py prints: one JSON object of times, facts and failures.
//
//	gobolt DATASET STORE SIZES(JSON) SKIP(JSON)
//
// It reads the same files and does the same work in the same order. It runs
// with bbolt's defaults: array freelist, synced, 50 % fill.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	keySize    = 16
	valueSize  = 100
	rangePairs = 100
	poolSize   = 1 << 16
	poolStep   = 61
)

var bucketName = []byte("bench")

type sizes struct {
	Pairs, Commits, Ranges, Opens int
}

type timing struct {
	Seconds    float64 `json:"seconds"`
	CPU        float64 `json:"cpu"`
	Operations int     `json:"operations"`
}

type result struct {
	Times    map[string]timing `json:"times"`
	Facts    map[string]int64  `json:"facts"`
	Failures map[string]string `json:"failures"`
}

type worker struct {
	store string
	sizes sizes
	skip  map[string]bool
	pool  []byte
	db    *bolt.DB
	out   result
}

func main() {
	folder := os.Args[1]
	w := &worker{store: os.Args[2], skip: map[string]bool{}}
	w.out = result{map[string]timing{}, map[string]int64{}, map[string]string{}}
	must(json.Unmarshal([]byte(os.Args[3]), &w.sizes))
	var skipped []string
	must(json.Unmarshal([]byte(os.Args[4]), &skipped))
	for _, name := range skipped {
		w.skip[name] = true
	}
	keys := split(folder + "/keys")
	gets := split(folder + "/gets")
	starts := split(folder + "/starts")
	commits := split(folder + "/commits")
	pool, err := os.ReadFile(folder + "/pool")
	must(err)
	w.pool = pool

	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	place := make(map[string]int, len(keys))
	sorted := append([]int(nil), order...)
	sort.Slice(sorted, func(i, j int) bool {
		return bytes.Compare(keys[sorted[i]], keys[sorted[j]]) < 0
	})
	for i, index := range sorted {
		place[string(keys[index])] = i
	}
	expected := 0
	for _, start := range starts {
		expected += min(rangePairs, len(keys)-place[string(start)])
	}

	for _, load := range []struct {
		name  string
		order []int
	}{{"load sorted", sorted}, {"load random", order}} {
		if w.skip[load.name] {
			continue
		}
		os.Remove(w.store)
		before := restingMemory()
		w.open()
		w.time(load.name, len(keys), 0, func() int {
			must(w.db.Update(func(tx *bolt.Tx) error {
				b, err := tx.CreateBucket(bucketName)
				must(err)
				for _, i := range load.order {
					must(b.Put(keys[i], w.value(i)))
				}
				return nil
			}))
			return 0
		})
		w.close()
		w.out.Facts["memory "+load.name] = status("VmHWM") - before
		w.out.Facts["file "+load.name] = w.fileSize()
	}

	opens := make([]timing, w.sizes.Opens)
	for i := range opens {
		cpu, began := cpuSeconds(), time.Now()
		w.open()
		opens[i] = timing{time.Since(began).Seconds(), cpuSeconds() - cpu, 1}
		w.close()
	}
	sort.Slice(opens, func(i, j int) bool { return opens[i].Seconds < opens[j].Seconds })
	w.out.Times["open"] = opens[len(opens)/2]

	before := restingMemory()
	w.open()
	for _, name := range []string{"get cold", "get warm"} {
		w.time(name, len(gets), len(gets), func() int { return w.gets(gets) })
	}
	w.close()
	w.open()
	for _, name := range []string{"scan cold", "scan warm"} {
		w.time(name, len(keys), len(keys), w.scan)
	}
	w.time("range", len(starts), expected, func() int { return w.ranges(starts) })
	w.close()
	w.out.Facts["memory reads"] = status("VmHWM") - before

	w.open()
	w.time("commit", len(commits), 0, func() int {
		for i, key := range commits {
			must(w.db.Update(func(tx *bolt.Tx) error {
				return tx.Bucket(bucketName).Put(key, w.value(i))
			}))
		}
		return 0
	})
	w.out.Facts["file commit"] = w.fileSize()
	doomed := (len(gets) + 1) / 2
	w.time("delete half", doomed, 0, func() int {
		must(w.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketName)
			for i := 0; i < len(gets); i += 2 {
				must(b.Delete(gets[i]))
			}
			return nil
		}))
		return 0
	})
	if left := len(keys) + len(commits) - doomed; w.scan() != left {
		must(fmt.Errorf("not %d pairs in the end", left))
	}
	w.close()
	w.out.Facts["file end"] = w.fileSize()
	os.Remove(w.store)
	must(json.NewEncoder(os.Stdout).Encode(w.out))
}

func (w *worker) open() {
	db, err := bolt.Open(w.store, 0600, nil)
	must(err)
	w.db = db
}

func (w *worker) close() { must(w.db.Close()) }

func (w *worker) value(index int) []byte {
	start := index * poolStep % (poolSize - valueSize)
	return w.pool[start : start+valueSize]
}

func (w *worker) time(name string, operations, expect int, call func() int) {
	if w.skip[name] {
		return
	}
	runtime.GC()
	cpu, began := cpuSeconds(), time.Now()
	answer := call()
	seconds := time.Since(began).Seconds()
	cpu = cpuSeconds() - cpu
	if expect != 0 && answer != expect {
		must(fmt.Errorf("%s: %d pairs, not %d", name, answer, expect))
	}
	w.out.Times[name] = timing{seconds, cpu, operations}
}

func (w *worker) gets(keys [][]byte) (found int) {
	must(w.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketName)
		for _, key := range keys {
			if b.Get(key) != nil {
				found++
			}
		}
		return nil
	}))
	return
}

func (w *worker) scan() (found int) {
	must(w.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketName).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			found++
		}
		return nil
	}))
	return
}

func (w *worker) ranges(starts [][]byte) (found int) {
	must(w.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketName).Cursor()
		for _, start := range starts {
			wanted := rangePairs
			for k, _ := c.Seek(start); k != nil; k, _ = c.Next() {
				found++
				if wanted--; wanted == 0 {
					break
				}
			}
		}
		return nil
	}))
	return
}

func (w *worker) fileSize() int64 {
	info, err := os.Stat(w.store)
	must(err)
	return info.Size()
}

// cpuSeconds is what this process has used so far, the garbage collector too.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	nanoseconds := usage.Utime.Nano() + usage.Stime.Nano()
	return float64(nanoseconds) / 1e9
}

// restingMemory gives back what Go holds needlessly and starts a new peak.
func restingMemory() int64 {
	debug.FreeOSMemory()
	must(os.WriteFile("/proc/self/clear_refs", []byte("5"), 0))
	return status("VmRSS")
}

func status(field string) int64 {
	data, err := os.ReadFile("/proc/self/status")
	must(err)
	for _, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, field+":") {
			kib, err := strconv.ParseInt(strings.Fields(line)[1], 10, 64)
			must(err)
			return kib * 1024
		}
	}
	panic("no " + field)
}

func split(path string) [][]byte {
	data, err := os.ReadFile(path)
	must(err)
	keys := make([][]byte, 0, len(data)/keySize)
	for at := 0; at < len(data); at += keySize {
		keys = append(keys, data[at:at+keySize])
	}
	return keys
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

package sim

import "time"

// event is something that happens at a time; equal times keep the order in which they were planned.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

// queue is a binary heap of events, by time.
type queue struct {
	heap []event
	seq  uint64
}

func (q *queue) len() int { return len(q.heap) }

func (q *queue) less(i, j int) bool {
	a, b := &q.heap[i], &q.heap[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (q *queue) push(at time.Duration, do func()) {
	q.seq++
	q.heap = append(q.heap, event{at, q.seq, do})
	for i := len(q.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.less(i, up) {
			break
		}
		q.heap[i], q.heap[up] = q.heap[up], q.heap[i]
		i = up
	}
}

func (q *queue) pop() event {
	top, last := q.heap[0], len(q.heap)-1
	q.heap[0] = q.heap[last]
	q.heap[last] = event{}
	q.heap = q.heap[:last]
	for i := 0; ; {
		low, left, right := i, 2*i+1, 2*i+2
		if left < last && q.less(left, low) {
			low = left
		}
		if right < last && q.less(right, low) {
			low = right
		}
		if low == i {
			return top
		}
		q.heap[i], q.heap[low] = q.heap[low], q.heap[i]
		i = low
	}
}

"""What a released model or mask set comes from: data, weights, licences, scores, and limits."""

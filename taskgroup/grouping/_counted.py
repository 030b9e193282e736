"""Clusterings into a given number of groups; without one, the number of best modularity is taken."""

import warnings
from abc import abstractmethod

import networkx as nx
import numpy as np

from taskgroup.errors import GroupingError
from taskgroup.grouping._clusterer import Clusterer, best_by_modularity

# Numbers of groups that are tried where none is given.
_MOST_TRIED = 20
# Weight put between all pairs before spectral clustering, in units of the mean weight: graphs in several pieces, which
# the method is not made for, become connected (Amini et al. 2013, doi:10.1214/13-AOS1138).
_BACKGROUND = 1e-3


class CountedClusterer(Clusterer):
    """Base of clusterings that are told how many groups to make."""

    takes_k = True

    @abstractmethod
    def cut(self, graph: nx.Graph, k: int) -> np.ndarray:
        """Return the number of its group for each node, int [T]; 1 < k < T."""

    def communities(self, graph: nx.Graph) -> list[set[int]]:
        if self.k is not None:
            return self._into(graph, self.k)
        # Targets without an edge stay alone and must not count when k is chosen.
        connected = [node for node in graph if graph.degree(node)]
        if not connected:
            return []
        numbers = {node: i for i, node in enumerate(connected)}
        core = nx.relabel_nodes(graph.subgraph(connected), numbers)
        largest_k = min(len(core), _MOST_TRIED)
        cuts = (self._into(core, k) for k in range(1, largest_k + 1))
        parts = best_by_modularity(core, cuts, self.resolution)
        return [{connected[i] for i in part} for part in parts]

    def _into(self, graph: nx.Graph, k: int) -> list[set[int]]:
        if k > len(graph):
            raise GroupingError(
                f"k must not exceed the number of targets ({len(graph)}), but got {k}."
            )
        if k == 1:
            return [set(graph)]
        if k == len(graph):
            return [{node} for node in graph]
        labels = self.cut(graph, k)
        return [set(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]


class Hierarchical(CountedClusterer):
    """Average linkage on 1 - weight / largest weight (pairs without an edge are 1 apart), cut into k groups."""

    def cut(self, graph: nx.Graph, k: int) -> np.ndarray:
        from scipy.cluster.hierarchy import average, cut_tree
        from scipy.spatial.distance import squareform

        weight = nx.to_numpy_array(graph, weight="weight")
        distance = 1.0 - weight / max(weight.max(), np.finfo(float).tiny)
        np.fill_diagonal(distance, 0.0)
        return cut_tree(average(squareform(distance)), n_clusters=k).ravel()


class Spectral(CountedClusterer):
    """k-means on the leading eigenvectors of the normalised Laplacian, doi:10.1007/s11222-007-9033-z."""

    def cut(self, graph: nx.Graph, k: int) -> np.ndarray:
        from sklearn.cluster import SpectralClustering
        from sklearn.exceptions import ConvergenceWarning

        weight = nx.to_numpy_array(graph, weight="weight")
        weight += _BACKGROUND * (weight.mean() or 1.0)
        np.fill_diagonal(weight, 0.0)
        with warnings.catch_warnings():
            # Targets that nothing tells apart make fewer than k distinct points; fewer groups are then right.
            warnings.simplefilter("ignore", ConvergenceWarning)
            method = SpectralClustering(k, affinity="precomputed", random_state=self.seed)
            return method.fit_predict(weight)

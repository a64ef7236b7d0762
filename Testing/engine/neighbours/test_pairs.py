"""Which volumes of a batch are compared: each equally often, each pair once, whatever the order they come in."""

import pytest

from ZSADCLIPLib.neighbours.pairs import PairPlan


def pairs_of(plan):
    return [pair for pairs in plan.blocks().values() for pair in pairs]


@pytest.mark.parametrize("count, references", [(5, 32), (20, 4), (21, 4), (12, 11), (12, 10), (9, 1), (2, 1)])
def test_every_volume_has_equally_many_references(count, references):
    ids = [f"c{n:02d}" for n in range(count)]
    plan = PairPlan(ids, references)
    pairs, wanted = pairs_of(plan), min(references + references % 2, count - 1)
    assert len(pairs) == len(set(pairs)) == count * wanted // 2 and plan.references == wanted
    for name in ids:
        partners = plan.partners(name)
        assert len(partners) == wanted and name not in partners
        assert {tuple(sorted((name, other))) for other in partners} == {pair for pair in pairs if name in pair}


def test_the_order_of_names_does_not_matter_and_the_seed_does():
    ids = [f"c{n:02d}" for n in range(20)]
    assert PairPlan(ids, 4).blocks() == PairPlan(ids[::-1], 4).blocks()
    assert set(pairs_of(PairPlan(ids, 4, seed=0))) != set(pairs_of(PairPlan(ids, 4, seed=1)))


def test_a_block_holds_the_pairs_it_is_named_for():
    plan = PairPlan([f"c{n:02d}" for n in range(11)], 6, block=3)
    for blocks, pairs in plan.blocks().items():
        assert blocks[0] <= blocks[1] and pairs == sorted(pairs)
        assert all(plan.block_of(*pair) == plan.block_of(*pair[::-1]) == blocks and pair[0] < pair[1] for pair in pairs)
        assert len({name for pair in pairs for name in pair}) <= 6
